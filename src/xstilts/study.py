"""A study as a value, and its strict TOML form: one table to one dataclass, no interpolation, no inheritance of files."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

from xstilts.errors import StudyError, nearest
from xstilts.stages import STRICT, Form, Recipe

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
NONE = "none"  # the intermediate that is no training
UNTUNED = "untuned"  # no training at all: the pretrained model is asked in plain words
TARGET = "target"  # in a chain or a mix: the target of the cell, whichever it is
OWN, EVERY = "own", "*"  # of a mix's task, in place of a language: the language that the cell is scored in, every scored one
LAYER = re.compile(r"14/24|last|dev|-?[0-9]+")


@dataclass(frozen=True, slots=True)
class Encoder:
    """A pretrained model: exactly one of `path`, `hub` (+ `revision`, a full commit) and `pretrain` (a config)."""

    __pydantic_config__: ClassVar = STRICT
    path: str = ""
    hub: str = ""
    revision: str = ""
    pretrain: str = ""
    pool: Literal["auto", "first", "mean", "last"] = "auto"  # sentence vector of the heads; "auto" is that of its architecture
    layer: int = -1  # hidden state that retrieval embeds with; -1 is the last
    form: Form = "heads"  # "text": no heads, tasks are read and answered as text (encoder-decoders and decoders)
    notes: str = ""  # what a reader must know of it (printed in every report)
    seen: tuple[str, ...] = ()  # tasks whose labels its weights have learnt from already (added to what is known of it)
    # models of one series had the same data, tokenizer and number of updates in pretraining: only among them is size compared
    series: str = ""


@dataclass(frozen=True, slots=True)
class Mix:
    """Tasks trained together, each "TASK" (in its training language), "TASK:LANGUAGE", "target", "target:own" or "target:*".

    An epoch holds `weights[i]` times (default 1) as many rows of `tasks[i]` as the sampling says, of n rows:
    proportional: n; capped: min(n, cap) (Raffel et al. 2020, section 3.5.2); temperature: in proportion to n ** exponent
    (ibid.; exponent 1 / T), uniform: the same of each; the last two share out the rows that a proportional epoch holds.
    `text_rate` is the share of an epoch that is raw text for masked language modelling, whatever its size.
    """

    __pydantic_config__: ClassVar = STRICT
    tasks: tuple[str, ...]
    weights: tuple[float, ...] = ()
    sampling: Literal["proportional", "capped", "temperature", "uniform"] = "proportional"
    cap: int = 2**16
    exponent: float = 0.5
    text_rate: float | None = None
    rows: int | None = None  # the most rows to use of each (few-shot); None: the task's own cap
    split: str = ""  # train on this split of each task in place of the one that serves for training


@dataclass(frozen=True, slots=True)
class Translation:
    """A task's training rows in other languages: in a chain or a mix it stands where a task can ("NAME", "NAME:LANGUAGE").

    `by` says who translates: "folder", translations made elsewhere under the names of the task's own files (`path`, with
    {language} in it where there are several); "apertium"; "model", a sequence-to-sequence model (`path`, or `hub` with
    `revision`). `task = "target"` is the target of the cell, whichever it is; then "NAME:own" follows the scored language.
    """

    __pydantic_config__: ClassVar = STRICT
    task: str
    languages: tuple[str, ...]
    by: Literal["folder", "apertium", "model"]
    path: str = ""
    hub: str = ""
    revision: str = ""
    mode: str = ""  # apertium: the mode, where it is not that of the two languages
    source: str = ""  # model: the language of the originals as its tokenizer names it ("eng_Latn")
    target: str = ""  # model: the language to translate into, as the tokenizer names it; the output begins with it
    prefix: str = ""  # model: text before every sentence
    beams: int = 1


@dataclass(frozen=True, slots=True)
class Merged:
    """Chains trained apart, then put together without training: a step of a chain, as a task or mix is one."""

    __pydantic_config__: ClassVar = STRICT
    of: tuple[str, ...]
    method: Literal["average", "arithmetic", "ties"] = "average"
    weights: tuple[float, ...] = ()  # one a chain; () means equal ones (arithmetic: 1 each)
    scale: float | None = None  # default: 0.4 for arithmetic, 1 for ties
    density: float = 0.2  # ties: share of each task vector that is kept
    seeds: Literal["own", "all"] = "own"  # "all": every chain with every seed of the study is merged into one


@dataclass(frozen=True, slots=True)
class Search:
    """Train with each learning rate; the English dev part chooses, for each seed by itself."""

    __pydantic_config__: ClassVar = STRICT
    lr: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How sentences are embedded: `layer` is "14/24" (that share of the depth), "last" or a number; see `stages.layer_of`.

    "dev" takes the layer that is best on the target's dev part, for each model by itself, or where it has none on the dev part
    of the retrieval task that `dev` names.
    """

    __pydantic_config__: ClassVar = STRICT
    layer: str = "14/24"
    pool: Literal["first", "mean", "last"] = "mean"
    dev: str = ""


@dataclass(frozen=True, slots=True)
class Splits:
    """Which splits serve as the parts of one task in place of its own choice, and in which languages it is scored."""

    __pydantic_config__: ClassVar = STRICT
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    languages: tuple[str, ...] = ()  # () means every language of the task
    shared: Literal["drop", "keep"] = "drop"  # training rows that also stand in a scored part


@dataclass(frozen=True, slots=True)
class OnHub:
    """Where a task's rows are on the hub, in place of what its file says ("" and {}: as it says); see `provide`."""

    __pydantic_config__: ClassVar = STRICT
    repository: str = ""
    revision: str = ""  # a full commit
    config: str = ""  # the configuration (subset); "{language}" stands for the code
    splits: Mapping[str, str] = field(default_factory=dict)  # our split -> theirs
    columns: Mapping[str, str] = field(default_factory=dict)  # our column -> theirs


@dataclass(frozen=True, slots=True)
class Caps:
    """The most rows to use of each part; None: all."""

    __pydantic_config__: ClassVar = STRICT
    train: int | None = None
    dev: int | None = None
    test: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the question comes to: `what` of `first` minus that of `second`, two models or two intermediates.

    Of two models it is taken after each choice, of two choices in each model: for each target, and over the targets. `by` takes it
    for each family or script of the languages too, the training language left out.
    """

    __pydantic_config__: ClassVar = STRICT
    what: Literal["score", "gain", "gap"]
    first: str
    second: str
    by: Literal["", "family", "script"] = ""


@dataclass(frozen=True)
class Study:
    """Models x intermediates x targets x seeds, and how they are trained.

    An intermediate is a chain of steps, "squad > nli": tasks, mixes, merges, and "target". Where no step trains the target, its
    training ends the chain. "none" is no step; "untuned" not even the target: the same answers for every seed, made once.
    """

    __pydantic_config__: ClassVar = STRICT
    name: str
    models: tuple[str, ...]
    intermediates: tuple[str, ...]
    targets: tuple[str, ...]
    seeds: tuple[int, ...]
    question: str = ""
    notes: str = ""
    answers: tuple[Asked, ...] = ()  # what the report answers the question with
    part: Literal["dev", "test"] = "test"
    languages: tuple[str, ...] = ()  # () means every language of each target
    keep: Literal["all", "best", "none"] = "best"
    forgetting: bool = False  # predict on the intermediate task's dev rows too, before and after the target's training
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int = 1
    encoders: Mapping[str, Encoder] = field(default_factory=dict)
    mixes: Mapping[str, Mix] = field(default_factory=dict)
    merges: Mapping[str, Merged] = field(default_factory=dict)
    translations: Mapping[str, Translation] = field(default_factory=dict)
    search: Mapping[str, Search] = field(default_factory=dict)  # by task or mix, or "all"
    retrieval: Retrieval = field(default_factory=Retrieval)
    splits: Mapping[str, Splits] = field(default_factory=dict)
    hub: Mapping[str, OnHub] = field(default_factory=dict)  # the tasks whose rows are taken from the hub
    caps: Mapping[str, Caps] = field(default_factory=dict)  # task name, or "all"
    recipe: Recipe = field(default_factory=Recipe)
    recipes: Mapping[str, Recipe] = field(default_factory=dict)  # by task or mix

    def recipe_of(self, name: str) -> Recipe:
        """The recipe of a task or mix: its own table, else `[recipe]`."""
        return self.recipes.get(name, self.recipe)

    def cap_of(self, task: str, part: str) -> int | None:
        """The cap on one part of a task: its own, else that of `[caps.all]`."""
        for name in (task, "all"):
            if (cap := getattr(self.caps.get(name, Caps()), part)) is not None:
                return int(cap)
        return None


def steps_of(chain: str) -> tuple[str, ...]:
    """The steps of an intermediate; () for "none" and "untuned"."""
    return () if chain in (NONE, UNTUNED) else tuple(step.strip() for step in chain.split(">"))


def ingredient(name: str) -> tuple[str, str]:
    """A mix's "TASK:LANGUAGE" as its two halves; the second is "" for the training language."""
    task, _, language = name.partition(":")
    return task, language


def ready_made() -> tuple[str, ...]:
    """The names of the studies that come with the package."""
    return tuple(sorted(p.name.removesuffix(".toml") for p in files("xstilts.studies").iterdir() if p.name.endswith(".toml")))


def locate(name_or_path: str) -> Path:
    """The file of a study: a path, or the name of a ready-made one. Raises StudyError."""
    path = Path(name_or_path)
    if path.is_file():
        return path
    if name_or_path in ready_made():
        return Path(str(files("xstilts.studies") / f"{name_or_path}.toml"))
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise StudyError(f"{name_or_path}: no such study file")
    raise StudyError(
        f'"{name_or_path}" is neither a study file nor a ready-made study (there are: {", ".join(ready_made())})'
        + nearest(name_or_path, ready_made())
    )


def read_study(name_or_path: str) -> Study:
    """The study of a TOML file or a ready-made name. Raises StudyError with the path of the wrong key."""
    path = locate(name_or_path)
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}") from None
    try:
        return parse_study(table)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None


def parse_study(table: Mapping[str, Any]) -> Study:
    """The study of a TOML table. `[recipes.X]` names only what differs from `[recipe]`. Raises StudyError."""
    filled = dict(table)
    base, own = table.get("recipe", {}), table.get("recipes", {})
    if isinstance(base, Mapping) and isinstance(own, Mapping):
        filled["recipes"] = {k: {**base, **v} if isinstance(v, Mapping) else v for k, v in own.items()} if own else {}
    study = _checked(filled)
    _check_values(study)
    return study


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Study)


_EXPECTED = {
    "float": "a number", "int": "a whole number", "string": "a text in quotes", "bool": "true or false",
    "tuple": "a list", "list": "a list", "dict": "a table", "dataclass": "a table", "mapping": "a table",
}  # fmt: skip


_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


def _checked(table: Mapping[str, Any]) -> Study:
    from pydantic import ValidationError

    try:
        study: Study = _adapter().validate_json(json.dumps(table, default=str))
    except ValidationError as errors:
        raise StudyError(told(errors.errors(), _keys_at)) from None
    return study


def told(found: Sequence[Any], keys_at: Callable[[list[str]], list[str]]) -> str:
    """One line for the first of pydantic's complaints: the key's path, what was expected, what stands there.

    A misspelt key comes first: it is why another one is missing. `keys_at` names the keys of the table at a path.
    """
    error = next((error for error in found if error["type"] in _UNKNOWN), found[0])
    where = [str(step) for step in error["loc"]]
    path, kind, got = ".".join(where), error["type"], error.get("input")
    if kind in _UNKNOWN:
        known = keys_at(where[:-1])
        return f'unknown key "{path}"' + (nearest(where[-1], known) or f" (known here: {', '.join(known)})")
    if kind in ("missing", "missing_argument"):
        return f'"{path}" is missing'
    shown = json.dumps(got, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    if kind == "literal_error":
        return f"{path}: expected {error['ctx']['expected']}, got {shown}"
    expected = next((text for name, text in _EXPECTED.items() if kind.startswith(name)), error["msg"])
    return f"{path}: expected {expected}, got {shown}"


def _keys_at(where: list[str]) -> list[str]:
    tables = {
        "answers": Asked,
        "encoders": Encoder, "mixes": Mix, "merges": Merged, "translations": Translation, "search": Search, "retrieval": Retrieval,
        "splits": Splits, "hub": OnHub, "caps": Caps, "recipe": Recipe, "recipes": Recipe,
    }  # fmt: skip
    table = tables.get(where[0], Study) if where else Study
    return [f.name for f in fields(table)]


def _check_values(study: Study) -> None:
    """What types cannot say. Raises StudyError."""
    if not NAME.fullmatch(study.name):
        raise StudyError(f'name: "{study.name}" names folders; use letters, digits and . _ + -')
    for listed in ("models", "intermediates", "targets", "seeds"):
        values = getattr(study, listed)
        if not values:
            raise StudyError(f"{listed}: the list is empty; a study needs at least one")
        if twice := [v for v in values if values.count(v) > 1]:
            raise StudyError(f'{listed}: "{twice[0]}" stands twice')
    if any(seed < 0 for seed in study.seeds):
        raise StudyError(f"seeds: {min(study.seeds)} is negative")
    if study.threads < 1:
        raise StudyError(f"threads: expected at least 1, got {study.threads}")
    for name, encoder in study.encoders.items():
        if sum(map(bool, (encoder.path, encoder.hub, encoder.pretrain))) != 1:
            raise StudyError(f"encoders.{name}: give exactly one of path, hub and pretrain")
        if encoder.pretrain and encoder.series:
            raise StudyError(f"encoders.{name}.series: that is read from the pretraining config; leave it out")
        if encoder.pretrain and (encoder.pool != "auto" or encoder.layer != -1):
            key = "pool" if encoder.pool != "auto" else "layer"
            raise StudyError(f"encoders.{name}.{key}: that of the pretraining config holds; leave it out, or name the finished encoder by path")
        if encoder.hub and not re.fullmatch(r"[0-9a-f]{40}", encoder.revision):
            raise StudyError(f'encoders.{name}.revision: pin the full commit (40 hexadecimal digits), got "{encoder.revision}"')
    for place, asked in enumerate(study.answers):
        _check_asked(study, f"answers.{place}", asked)
    for name, mix in study.mixes.items():
        if not mix.tasks:
            raise StudyError(f"mixes.{name}.tasks: the list is empty")
        if mix.weights and len(mix.weights) != len(mix.tasks):
            raise StudyError(f"mixes.{name}.weights: {len(mix.weights)} weights for {len(mix.tasks)} tasks")
        if any(weight <= 0 for weight in mix.weights):
            raise StudyError(f"mixes.{name}.weights: {min(mix.weights)} is not above 0")
        for key in ("cap", "exponent", "rows"):
            if (value := getattr(mix, key)) is not None and not value > 0:
                raise StudyError(f"mixes.{name}.{key}: expected more than 0, got {value}")
        if mix.text_rate is not None and not 0 < mix.text_rate < 1:
            raise StudyError(f"mixes.{name}.text_rate: expected a share above 0 and below 1, got {mix.text_rate}")
    for name, merged in study.merges.items():
        _check_merged(f"merges.{name}", merged)
    for name, translation in study.translations.items():
        _check_translation(f"translations.{name}", translation)
    for table in ("mixes", "merges", "translations"):
        for name in getattr(study, table):
            if name in (NONE, UNTUNED, TARGET) or not NAME.fullmatch(name):
                reserved = ", ".join(f'"{each}"' for each in (NONE, UNTUNED, TARGET))
                raise StudyError(f"{table}.{name}: not a name that a step can have; use letters, digits and . _ + - (not {reserved})")
    for one, two in (("mixes", "merges"), ("mixes", "translations"), ("merges", "translations")):
        if both := getattr(study, one).keys() & getattr(study, two).keys():
            raise StudyError(f"{two}.{min(both)}: one of {one} has this name too; choose another")
    for name, search in study.search.items():
        if len(search.lr) < 2 or len(set(search.lr)) < len(search.lr) or min(search.lr) <= 0:
            raise StudyError(f"search.{name}.lr: give two or more different rates above 0")
    if not LAYER.fullmatch(study.retrieval.layer):
        raise StudyError(f'retrieval.layer: expected "14/24", "last", "dev" or a number in quotes, got "{study.retrieval.layer}"')
    if study.retrieval.dev and study.retrieval.layer != "dev":
        raise StudyError(f'retrieval.dev: "{study.retrieval.dev}" chooses a layer where layer = "dev", and it is "{study.retrieval.layer}"')
    for name, own in study.hub.items():
        if own.revision and not re.fullmatch(r"[0-9a-f]{40}", own.revision):
            raise StudyError(f'hub.{name}.revision: pin the full commit (40 hexadecimal digits), got "{own.revision}"')
        if own.repository and not own.revision:
            raise StudyError(f'hub.{name}.revision is missing: which commit of "{own.repository}"? (40 hexadecimal digits)')
        if set("{}") & set(own.config.replace("{language}", "")):
            raise StudyError(f'hub.{name}.config: only {{language}} can stand in braces, got "{own.config}"')
    for name, caps in study.caps.items():
        for part in ("train", "dev", "test"):
            if (cap := getattr(caps, part)) is not None and cap < 1:
                raise StudyError(f"caps.{name}.{part}: expected at least 1, got {cap}")
    for where, recipe in {"recipe": study.recipe, **{f"recipes.{k}": v for k, v in study.recipes.items()}}.items():
        _check_recipe(where, recipe)


def _check_recipe(where: str, recipe: Recipe) -> None:
    above_zero = ("lr", "epochs", "batch", "max_length", "clip", "eps")
    for name in above_zero:
        if not getattr(recipe, name) > 0:
            raise StudyError(f"{where}.{name}: expected more than 0, got {getattr(recipe, name)}")
    for name in ("warmup", "dropout", "mask_rate"):
        if not 0 <= getattr(recipe, name) < 1:
            raise StudyError(f"{where}.{name}: expected a share from 0 to below 1, got {getattr(recipe, name)}")
    if recipe.steps is not None and recipe.steps < 1:
        raise StudyError(f"{where}.steps: expected at least 1, got {recipe.steps}")
    if not 0 <= recipe.stride < recipe.max_length:
        raise StudyError(f"{where}.stride: expected from 0 to below max_length ({recipe.max_length}), got {recipe.stride}")
    for name in ("selections", "freeze_layers", "average"):
        if getattr(recipe, name) < 0:
            raise StudyError(f"{where}.{name}: expected 0 or more, got {getattr(recipe, name)}")
    for name in ("rank", "alpha", "prompt_length"):
        if not getattr(recipe, name) > 0:
            raise StudyError(f"{where}.{name}: expected more than 0, got {getattr(recipe, name)}")
    if recipe.tuning != "full" and (recipe.freeze_embeddings or recipe.freeze_layers):
        name = "freeze_embeddings" if recipe.freeze_embeddings else "freeze_layers"
        raise StudyError(f'{where}.{name}: tuning = "{recipe.tuning}" leaves every weight of the encoder as it is; freezing is of "full"')
    if recipe.average > recipe.selections:
        raise StudyError(f"{where}.average: the mean is over states at selections, and there are {recipe.selections} of {recipe.average}")


def _check_asked(study: Study, where: str, asked: Asked) -> None:
    two = (asked.first, asked.second)
    if asked.first == asked.second:
        raise StudyError(f'{where}: "{asked.first}" would be compared with itself; name two models or two intermediates')
    listed = study.models if asked.first in study.models else study.intermediates
    if strange := [name for name in two if name not in listed]:
        known = (*study.models, *study.intermediates)
        raise StudyError(f'{where}: "{strange[0]}": name two of "models" or two of "intermediates"{nearest(strange[0], known)}')
    if listed is study.intermediates and asked.what == "gain":
        raise StudyError(f'{where}.what: one choice over another is the difference of their scores; use "score"')
    if asked.what == "gap" and asked.by:
        raise StudyError(f"{where}.by: a gap is over all languages; leave it out")
    if asked.what == "gain" and NONE not in study.intermediates:
        raise StudyError(f'{where}.what: a gain needs "{NONE}" among the intermediates')


# which values each way of translating takes
_TRANSLATES = {"folder": ("path",), "apertium": ("mode",), "model": ("path", "hub", "revision", "source", "target", "prefix", "beams")}


def _check_translation(where: str, own: Translation) -> None:
    if not own.languages or len(set(own.languages)) < len(own.languages):
        raise StudyError(f"{where}.languages: name one or more, each once")
    for name in ("path", "hub", "revision", "mode", "source", "target", "prefix", "beams"):
        if name not in _TRANSLATES[own.by] and getattr(own, name) != (1 if name == "beams" else ""):
            raise StudyError(f'{where}.{name}: by = "{own.by}" takes {", ".join(_TRANSLATES[own.by])} only')
    several = len(own.languages) > 1
    if own.by == "folder" and (not own.path or (several and "{language}" not in own.path)):
        raise StudyError(f'{where}.path: name the folder of the translations, with {{language}} in it where there are several')
    if own.by == "model":
        if bool(own.path) == bool(own.hub):
            raise StudyError(f"{where}: give exactly one of path and hub")
        if own.hub and not re.fullmatch(r"[0-9a-f]{40}", own.revision):
            raise StudyError(f'{where}.revision: pin the full commit (40 hexadecimal digits), got "{own.revision}"')
        if own.beams < 1:
            raise StudyError(f"{where}.beams: expected at least 1 (greedy), got {own.beams}")
    if several and (own.target or own.mode or own.prefix):
        raise StudyError(f"{where}: a mode, target or prefix is of one language; make a translation for each")


def _check_merged(where: str, merged: Merged) -> None:
    if len(merged.of) < (1 if merged.seeds == "all" else 2):
        raise StudyError(f"{where}.of: give two chains or more, or one with seeds = \"all\"")
    if merged.weights and len(merged.weights) != len(merged.of):
        raise StudyError(f"{where}.weights: {len(merged.weights)} weights for {len(merged.of)} chains")
    if merged.weights and merged.method == "ties":
        raise StudyError(f"{where}.weights: ties has none; its chains count alike")
    if merged.method == "average" and (merged.scale is not None or sum(merged.weights or (1.0,)) <= 0):
        raise StudyError(f"{where}: an average has no scale, and weights with a sum above 0")
    if not 0 < merged.density <= 1:
        raise StudyError(f"{where}.density: expected a share above 0 and up to 1, got {merged.density}")
