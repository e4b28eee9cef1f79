"""Texts about images: tiny BLIP models with random weights, tiny images; read, planned, trained, stopped, resumed, scored, loaded again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from pyarrow import parquet
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from families_maker import make
from study_maker import file_hash
from xstilts import arithmetic, cli
from xstilts import estimate as estimating
from xstilts.deploy.find import find
from xstilts.engine import hf, pictures
from xstilts.engine import predict as predicting
from xstilts.engine.batch import Batch, Columns, batch_of
from xstilts.engine.classify import encode
from xstilts.engine.dropout import Draws, replace_dropouts
from xstilts.errors import DataError, ModelError, Stopped, StudyError
from xstilts.estimate import image_states
from xstilts.examples import Example, Text
from xstilts.executors.carry import Place, carry_out
from xstilts.needs import Counts, need, shapes
from xstilts.plan import Plan, make_plan
from xstilts.rows import available, check, load
from xstilts.stages import Merge, Predict, Runtime, Train
from xstilts.store import Store
from xstilts.study import parse_study
from xstilts.tasks import task

TASK = task("xvnli_images")
COLOURS = {"entailment": (220, 30, 30), "neutral": (30, 200, 30), "contradiction": (30, 30, 220)}
_PROCESSOR = {
    "image_processor_type": "BlipImageProcessor", "size": {"height": 16, "width": 16}, "resample": 3, "rescale_factor": 1 / 255,
    "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "do_resize": True, "do_rescale": True, "do_normalize": True,
}  # fmt: skip


def blip(folder: Path) -> Path:
    """A whole checkpoint: vision tower, text tower with attention to images, image processor."""
    make(folder, "blip")
    (folder / "preprocessor_config.json").write_text(json.dumps(_PROCESSOR))
    return folder


def paint(path: Path, label: str, seed: int) -> None:
    """An image of the label's colour with some noise; every other one is a PNG, whatever its name says."""
    noise = np.random.default_rng(seed).integers(-20, 21, (20, 24, 3))
    pixels = Image.fromarray((np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8))
    pixels.save(path, format="PNG" if seed % 2 else "JPEG")


def annotations(path: Path, first: int, count: int, images: Path, **more: str) -> None:
    """Rows whose image decides: two on each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for i in range(count):
            label, name = list(COLOURS)[i // 2 % 3], str(first + i // 2)
            paint(images / f"{name}.jpg", label, first + i // 2)
            text = " ".join(f"w{(7 * i + k) % 60}" for k in range(2 + i % 5))
            row = {"gold_label": label, "sentence1": "the caption", "sentence2": text, "captionID": f"{name}.jpg#0", **more}
            file.write(json.dumps(row) + "\n")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Rows and images of all parts, in English and Spanish."""
    images = tmp_path / "data/xvnli/images"
    images.mkdir(parents=True)
    annotations(tmp_path / "data/snli_1.0/snli_1.0_train.jsonl", 100, 24, images)
    annotations(tmp_path / "data/snli_1.0/snli_1.0_dev.jsonl", 200, 6, images)
    for code in ("en", "es"):
        annotations(tmp_path / f"data/xvnli/annotations/{code}/test.jsonl", 300, 12, images)
    return tmp_path / "data"


def planned(data: Path, **changes: Any) -> Plan:
    recipe = {"lr": 1e-2, "steps": 3, "batch": 8, "max_length": 24, "stride": 4, "dropout": 0.1}
    study = {
        "name": "s", "models": ["m"], "encoders": {"m": {"path": "m"}}, "intermediates": ["none"], "targets": ["xvnli_images"],
        "languages": ["en", "es"], "seeds": [0], "recipe": recipe, **changes,
    }  # fmt: skip
    return make_plan(parse_study(study), data, file_hash, base=data.parent)


class Bench:
    """A store in which the stages of a plan are carried out, one after the other, in this process."""

    def __init__(self, data: Path, name: str = "store") -> None:
        self.data, self.store = data, Store.open(data.parent / name)

    def run(self, plan: Plan, halt: bool = False) -> None:
        for stage in plan.stages:
            if self.store.find(stage.key) is None:
                predicting._loaded.cache_clear()
                with self.store.claim(stage.key, True) as draft:
                    assert draft is not None
                    carry_out(stage, Place(self.store, self.data, draft, plan.where, True, lambda _: None, lambda: halt))
                    self.store.finish(stage, 1.0, {})

    def scores(self, stage: Predict) -> np.ndarray[Any, Any]:
        """[E, 3] logits."""
        found = self.store.find(stage.key)
        assert found is not None
        return np.stack(parquet.read_table(found / "predictions.parquet").to_pydict()["scores"])

    def folder(self, stage: Any) -> Path:
        found = self.store.find(stage.key)
        assert found is not None
        return found


def trained(plan: Plan) -> Train:
    found = plan.cells[0].predict.model
    assert isinstance(found, Train)
    return found


# ---- rows ----


def test_rows_are_sentences_about_images_and_the_image_is_the_group(data: Path) -> None:
    path = data / "snli_1.0/snli_1.0_train.jsonl"
    more = [
        {"gold_label": "-", "sentence1": "a", "sentence2": "undecided", "captionID": "100.jpg#1"},
        {"gold_label": "neutral", "sentence1": "a", "sentence2": "of another collection", "captionID": "vg_syn_1"},
        {"gold_label": "neutral", "sentence1": "a", "sentence2": "last", "captionID": "100.jpg#2", "Flikr30kID": "101.jpg"},
    ]
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in more)
    rows = list(TASK.source.read(data, "train", "en"))
    assert len(rows) == 25
    first, last = rows[0], rows[-1]
    assert first == Text("train-1", "w0 w1", None, "entailment", "100", str(data / "xvnli/images/100.jpg"))
    assert isinstance(last, Text)
    assert (last.id, last.group, last.image) == ("train-27", "101", str(data / "xvnli/images/101.jpg"))


def test_no_image_of_a_later_part_is_trained_on(data: Path) -> None:
    with (data / "snli_1.0/snli_1.0_train.jsonl").open("a") as file:
        for image in (200, 300):  # of the dev and the test part, with other sentences
            file.write(json.dumps({"gold_label": "neutral", "sentence1": "a", "sentence2": "w5", "captionID": f"{image}.jpg#4"}) + "\n")
    (share,) = trained(planned_on(data)).mix
    assert len(load(share.rows, data)) == 24
    assert "w5" in {row.text for row in TASK.source.read(data, "train", "en") if isinstance(row, Text)}


def planned_on(data: Path, **changes: Any) -> Plan:
    if not (data.parent / "m").is_dir():
        blip(data.parent / "m")
    return planned(data, **changes)


def test_a_changed_image_changes_the_keys_of_what_reads_it_and_no_others(data: Path) -> None:
    before = planned_on(data)
    keys = {cell.language: cell.predict.rows.data for cell in before.cells}
    paint(data / "xvnli/images/300.jpg", "neutral", 7)
    after = planned_on(data)
    assert trained(after).mix[0].rows.data == trained(before).mix[0].rows.data
    assert all(cell.predict.rows.data != keys[cell.language] for cell in after.cells)
    paint(data / "xvnli/images/999.jpg", "neutral", 7)  # of no row
    assert [cell.predict.key for cell in planned_on(data).cells] == [cell.predict.key for cell in after.cells]
    path = data.parent / "m/preprocessor_config.json"
    path.write_text(path.read_text().replace("0.48", "0.5"))
    assert trained(planned_on(data)).key != trained(after).key


@pytest.mark.data
def test_the_real_annotations_name_their_images() -> None:
    real = Path(os.environ.get("XSTILTS_DATA", Path.home() / ".cache/xstilts/data"))
    if not (real / "xvnli/annotations").is_dir():
        pytest.skip(f"no real data: {real / 'xvnli/annotations'} is not there (set XSTILTS_DATA)")
    shapes = set()
    for code in available(TASK, "test", real):
        rows = list(TASK.source.read(real, "test", code))
        assert len(rows) == TASK.sizes[f"test-{code}"]
        shapes.add(tuple((row.id, row.group, row.image) for row in rows if isinstance(row, Text)))
    (same,) = shapes  # the same rows and images in every language
    assert all(Path(image).name == f"{group}.jpg" and group.isdigit() for _, group, image in same)
    assert len({image for *_, image in same}) == 357


# ---- the engine ----


def columns(rows: list[Example], folder: Path, cache: Path) -> Columns:
    made = encode(hf.load_tokenizer(folder), rows, TASK, 24, 0)
    return replace(made, images=pictures.gallery(rows, folder, Runtime(), cache))


def states(model: Any, made: Columns, rows: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return hf.hidden_states(model, batch_of(made, np.array(rows), "cpu"))


def test_states_are_those_of_transformers_own_model(data: Path, tmp_path: Path) -> None:
    """Pixels, vision tower, text tower and their attention: as in BLIP's matching of an image with a text."""
    folder = blip(tmp_path / "m")
    rows = list(TASK.source.read(data, "test", "en"))[:6]
    made = columns(rows, folder, tmp_path / "cache")
    ours = hf.load_encoder(folder, images=folder).eval()
    theirs = transformers.BlipForImageTextRetrieval.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    own_tokenizer = hf.load_tokenizer(folder)
    for number, row in enumerate(rows):
        assert isinstance(row, Text)
        with torch.no_grad(), Image.open(row.image) as image:
            pixels = processor(image.convert("RGB"), return_tensors="pt")["pixel_values"]
            seen = theirs.vision_model(pixels).last_hidden_state
            ids = torch.tensor([own_tokenizer(row.text)["input_ids"]])
            expected = theirs.text_encoder(ids, encoder_hidden_states=seen).last_hidden_state[0]
            blind = theirs.text_encoder(ids).last_hidden_state[0]
        found = states(ours, made, [number])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert float((found - blind).abs().max()) > 1e-2


def test_an_answer_goes_with_its_image_and_with_no_neighbour(data: Path, tmp_path: Path) -> None:
    folder = blip(tmp_path / "m")
    encoder = hf.load_encoder(folder, images=folder).eval()
    rows = list(TASK.source.read(data, "test", "en"))
    made = columns(rows, folder, tmp_path / "cache")
    together = states(encoder, made, list(range(len(rows)))).split(made.lengths.tolist())
    for number in range(len(rows)):
        torch.testing.assert_close(states(encoder, made, [number]), together[number], atol=1e-5, rtol=1e-5)
    texts = [row for row in rows if isinstance(row, Text)]
    swapped = [replace(row, image=other.image) for row, other in zip(texts, reversed(texts), strict=True)]
    others = states(encoder, columns(swapped, folder, tmp_path / "cache"), list(range(len(rows)))).split(made.lengths.tolist())
    for one, other in zip(together, others, strict=True):
        assert float((one - other).abs().max()) > 1e-2


def test_an_image_goes_through_the_tower_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, calls = blip(tmp_path / "m"), []
    inner = pictures.Tower.states

    def counted(tower: pictures.Tower, image: Any) -> torch.Tensor:
        calls.append(1)
        return inner(tower, image)

    monkeypatch.setattr(pictures.Tower, "states", counted)
    recipe = {"steps": 1, "batch": 8, "max_length": 24, "stride": 4}
    bench, plan = Bench(data), planned_on(data, recipe=recipe)
    bench.run(plan)  # 12 images in training, 3 in dev, 6 in each of two tests, whose images are the same
    assert len(calls) == 12 + 3 + 6
    shutil.copy(data / "xvnli/images/100.jpg", data / "xvnli/images/300.jpg")  # known by its bytes, whatever its name
    bench.run(planned_on(data, recipe=recipe))
    assert len(calls) == 12 + 3 + 6
    state = load_file(folder / "model.safetensors")
    state["vision_model.post_layernorm.weight"] += 1
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    pictures.tower.cache_clear()
    bench.run(planned_on(data, recipe=recipe))
    assert len(calls) == 2 * (12 + 3 + 6) - 1


@pytest.mark.slow
def test_a_stopped_training_goes_on_and_a_stored_one_answers_as_it_did(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned_on(data)
    whole, halted = Bench(data), Bench(data, "halted")
    whole.run(plan)
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "gallery", lambda *given, inner=pictures.gallery: inner(*given[:4]))  # stops in the loop, not before it
        with pytest.raises(Stopped, match="stopped at step 1 of 3"):
            halted.run(plan, halt=True)
    with pytest.raises(Stopped, match="stopped after the states of 0 images"):
        Bench(data, "at-once").run(plan, halt=True)
    halted.run(plan)
    for name in ("encoder/model.safetensors", "heads/xvnli_images.safetensors"):
        assert (whole.folder(trained(plan)) / name).read_bytes() == (halted.folder(trained(plan)) / name).read_bytes()
    start, entry = data.parent / "m", whole.folder(trained(plan)) / "encoder"
    before, after = (hf.load_encoder(folder, images=start).state_dict() for folder in (start, entry))
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert before.keys() == after.keys() and {".crossattention." in name for name in moved} == {True, False}
    scores = [whole.scores(cell.predict) for cell in plan.cells]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)  # English and Spanish rows are alike here
    with monkeypatch.context() as patch:
        patch.setattr(predicting, "BATCH", 1)  # every row in a batch of its own
        alone = Bench(data, "halted")
        shutil.rmtree(alone.folder(plan.cells[0].predict))
        alone.run(plan)
        np.testing.assert_allclose(alone.scores(plan.cells[0].predict), scores[0], atol=1e-5)
    with pytest.raises(ModelError, match="xvnli_images has images, and what is deployed reads texts alone"):
        find(trained(plan).key, whole.store.path, data, "cpu")
    assert transformers.BlipTextModel.from_pretrained(entry, add_pooling_layer=False).config.is_decoder  # plain, for others to load


@pytest.mark.slow
def test_texts_train_between_images_and_leave_what_attends_to_them(data: Path) -> None:
    """none, texts before, and a chain image -> text -> image: attention to images is the checkpoint's until images have trained it."""
    write_texts(data)
    plan = planned_on(data, intermediates=["snli", "xvnli_images>snli"], splits={"snli": {"dev": ""}}, languages=["en"])
    bench = Bench(data)
    bench.run(plan)
    start = data.parent / "m"
    models = {cell.intermediate: cell.predict.model for cell in plan.cells}
    assert isinstance(models["snli"], Train)
    text = models["snli"].start
    assert not any("crossattention" in name for name in load_file(bench.folder(text) / "encoder/model.safetensors"))
    again = models["xvnli_images>snli"]
    assert isinstance(again, Train) and isinstance(again.start, Train) and isinstance(again.start.start, Train)
    seeing = [load_file(bench.folder(each) / "encoder/model.safetensors") for each in (again.start.start, again.start, again)]
    own = hf.load_encoder(start, images=start).state_dict()
    for name in (name for name in own if ".crossattention." in name and name.endswith("dense.weight")):
        assert torch.equal(seeing[0][name], seeing[1][name]) and not torch.equal(own[name], seeing[0][name])
        assert not torch.equal(seeing[1][name], seeing[2][name])
    name = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(seeing[0][name], seeing[1][name])
    assert len({bench.scores(cell.predict).tobytes() for cell in plan.cells}) == 2


def write_texts(data: Path) -> None:
    (data / "snli").mkdir()
    with (data / "snli/train.jsonl").open("w") as file:
        for i in range(16):
            row = {"sentence1": f"w{i} is", "sentence2": f"the w{i + 1}", "gold_label": list(COLOURS)[i % 3]}
            file.write(json.dumps(row) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["head", "lora", "qlora"])
def test_ways_of_tuning(data: Path, tuning: str) -> None:
    """After a training on texts in the same way: its adapter stands on no attention to images, the next one does."""
    write_texts(data)
    for adapter in ("merge", "fresh", "continue") if tuning != "head" else ("merge",):
        recipe = {"tuning": tuning, "adapter": adapter, "rank": 2, "lr": 1e-2, "steps": 3, "batch": 8, "max_length": 24, "stride": 4}
        plan = planned_on(data, intermediates=["snli"], recipe=recipe, splits={"snli": {"dev": ""}}, languages=["en"])
        bench = Bench(data)
        bench.run(plan)
        assert np.isfinite(bench.scores(plan.cells[0].predict)).all()
        if tuning != "head":
            tensors = load_file(bench.folder(trained(plan)) / "adapter/adapter_model.safetensors")
            assert any("crossattention" in name for name in tensors) == (adapter != "continue")


@pytest.mark.slow
def test_merged_models_see(data: Path) -> None:
    merges = {"soup": {"of": ["xvnli_images"], "seeds": "all", "method": "average"}}
    plan = planned_on(data, intermediates=["soup"], seeds=[0, 1], merges=merges, languages=["en"])
    bench = Bench(data)
    bench.run(plan)
    soup = trained(plan).start
    assert isinstance(soup, Merge)
    parts = [load_file(bench.folder(part) / "encoder/model.safetensors") for part in soup.parts]
    name = "encoder.layer.1.crossattention.self.value.weight"
    torch.testing.assert_close(load_file(bench.folder(soup) / "encoder/model.safetensors")[name], (parts[0][name] + parts[1][name]) / 2)


@pytest.mark.slow
def test_what_only_an_image_says_is_learnt(data: Path) -> None:
    recipe = {"lr": 3e-3, "steps": 80, "batch": 8, "max_length": 24, "stride": 4, "dropout": 0.0}
    plan, bench = planned_on(data, recipe=recipe), Bench(data)
    bench.run(plan)
    gold = [list(COLOURS)[i // 2 % 3] for i in range(12)]
    for cell in plan.cells:
        found = parquet.read_table(bench.folder(cell.predict) / "predictions.parquet").to_pydict()["pred"]
        assert [pred for (pred,) in found] == gold


# ---- bad input: one line each ----


def refused(kind: type[Exception], words: str, call: Any) -> None:
    with pytest.raises(kind, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_an_image_that_is_not_there_is_named_before_anything_starts(data: Path) -> None:
    blip(data.parent / "m")
    (data / "xvnli/images/302.jpg").unlink()
    words = r'test\.jsonl: row "test-5": its image .*xvnli/images/302\.jpg is not there\. The images are Flickr30k'
    refused(DataError, f"xvnli_images: .*{words}", lambda: planned(data))
    report = check(TASK, data)
    assert not report.ok and any("302.jpg is not there" in finding.text for finding in report.findings)
    shutil.rmtree(data / "xvnli/images")
    refused(DataError, r"\(3 of 3 images are missing\)|\(12 of 12 images are missing\)", lambda: planned(data))


def test_a_reference_that_leads_out_of_the_folder_is_refused(data: Path) -> None:
    blip(data.parent / "m")
    path = data / "xvnli/annotations/es/test.jsonl"
    rows = path.read_text()
    for name in ("../../etc/passwd", "/etc/passwd", "..", "a/b", "a\\b", "", "1.png", "x\0"):
        row = {"gold_label": "neutral", "sentence1": "a", "sentence2": "b", "Flikr30kID": name, "captionID": "300.jpg#0"}
        path.write_text(rows + json.dumps(row) + "\n")
        words = r'es/test\.jsonl:13: "Flikr30kID" is .* which names no file of the images\' folder; get the annotations again'
        refused(DataError, words, lambda: list(TASK.source.read(data, "test", "es")))
    refused(DataError, f"xvnli_images: .*{words}", lambda: planned(data))


def test_images_that_cannot_be_decoded_are_named_with_file_and_row(data: Path, tmp_path: Path) -> None:
    plan, path = planned_on(data), data / "xvnli/images/104.jpg"
    whole = path.read_bytes()
    cut = ((whole[:-20], "truncated"), (whole[:99], "Truncated"))
    for raw, why in (*cut, (b"", "cannot identify"), (b"<html>", "cannot identify")):
        path.write_bytes(raw)
        refused(DataError, rf'xvnli/images/104\.jpg: row "train-9": no whole image \(.*{why}', lambda: Bench(data).run(plan))
    path.unlink()
    refused(DataError, r'xvnli/images/104\.jpg: row "train-9": the image cannot be read', lambda: Bench(data).run(plan))
    rows = [Text("a", "b")]
    refused(DataError, 'row "a" has no image', lambda: pictures.gallery(rows, tmp_path / "m", Runtime(), tmp_path / "cache"))


def test_images_too_large_to_be_any_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "a.jpg", "neutral", 0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    raw = (tmp_path / "a.jpg").read_bytes()
    refused(DataError, 'row "e": no whole image .*decompression bomb', lambda: pictures.decoded(raw, Text("e", "", image="a.jpg")))


def test_models_that_cannot_see_are_refused_by_plan_and_engine(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = blip(tmp_path / "m")
    cannot = 'models: "x".* cannot do "xvnli_images"'

    def plan(folder: str, **encoder: Any) -> Any:
        return lambda: planned(data, models=["x"], encoders={"x": {"path": folder, **encoder}})

    for family in ("xlm-roberta", "clip", "llama"):
        make(tmp_path / family, family)
        refused(StudyError, f"{cannot} .*: its text layers do not attend to images; the whole checkpoints of BLIP's do", plan(family))
    hf.save_encoder(hf.load_encoder(whole), hf.load_tokenizer(whole), tmp_path / "tower")
    refused(StudyError, f"{cannot} .*: a text tower alone has no vision tower; give the whole checkpoint", plan("tower"))
    refused(ModelError, "no images go with blip_text_model", lambda: hf.load_encoder(whole, images=tmp_path / "tower"))
    refused(StudyError, f'{cannot}, whose rows have images: they have no text form; use form = "heads"', plan("m", form="text"))
    lacking = {"sightless": "vision_model.", "blind": ".crossattention."}
    for name, part in lacking.items():
        shutil.copytree(whole, tmp_path / name)
        state = load_file(whole / "model.safetensors")
        save_file({key: value for key, value in state.items() if part not in key}, tmp_path / name / "model.safetensors")
    refused(StudyError, f"{cannot}.*sightless has no tensors of a vision tower", plan("sightless"))
    refused(ModelError, "sightless: no tensors of a vision tower", lambda: pictures.tower(tmp_path / "sightless", "cpu", 1))
    refused(StudyError, f"{cannot}.*blind has no text tower that attends to images", plan("blind"))
    refused(ModelError, "blind: the text tower has no attention to images", lambda: hf.load_encoder(whole, images=tmp_path / "blind"))
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        refused(StudyError, r'Pillow reads them; pip install "xstilts\[images\]"', plan("m"))
    by = {"task": "xvnli_images", "by": "folder", "path": "t", "languages": ["es"]}
    wanted = {"intermediates": ["none", "mt"], "translations": {"mt": by}}
    refused(StudyError, "translations.mt: xvnli_images has images: its rows are trained on in en alone", lambda: planned(data, **wanted))
    (whole / "preprocessor_config.json").unlink()
    refused(StudyError, f"{cannot}.*no preprocessor_config.json, which says how an image becomes numbers", plan("m"))
    refused(ModelError, "no preprocessor_config.json", lambda: pictures.tower(whole, "cpu", 1))


def test_the_command_ends_with_one_line_and_2(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blip(data.parent / "m")
    (data / "xvnli/images/302.jpg").unlink()
    study = data.parent / "s.toml"
    study.write_text(
        'name = "s"\nmodels = ["m"]\nintermediates = ["none"]\ntargets = ["xvnli_images"]\nlanguages = ["en", "es"]\nseeds = [0]\n'
        '[encoders.m]\npath = "m"\n'
    )
    monkeypatch.chdir(data.parent)
    for command in ("plan", "run"):
        monkeypatch.setattr("sys.argv", ["xstilts", "--data", str(data), "--store", str(data.parent / "store"), command, str(study)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr().err.strip()
        assert ended.value.code == 2 and "302.jpg is not there" in said and "\n" not in said


# ---- what it needs ----


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_looking_needs_is_what_torch_counts_and_keeps(tmp_path: Path, precision: str) -> None:
    rows, length, precisely = 5, 7, {"fp32": 0.08, "bf16": 0.12}[precision]
    folder = blip(tmp_path / "m")
    shape = arithmetic.shape(json.loads((folder / "config.json").read_text()))
    assert shape.sight is not None and shape.sight.places == 5
    sight = replace(shape.sight, places=40)
    shape = replace(shape, sight=sight)
    model, many = hf.load_encoder(folder, 0.1, images=folder).train(), np.full(rows, length)
    ids, seen = torch.randint(3, 60, (rows * length,)), torch.randn(rows, sight.places, sight.tower.hidden)
    draws, found = Draws(0.1, 0), []
    replace_dropouts(model, draws)
    draws.at(0, np.arange(rows), many)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    widths = {tuple(p.shape) for p in model.parameters()} | {tuple(p.shape)[::-1] for p in model.parameters()}
    for images in (None, seen):
        kept: dict[int, torch.Tensor] = {}

        def note(tensor: torch.Tensor, kept: dict[int, torch.Tensor] = kept) -> torch.Tensor:
            cast = tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in widths
            if tensor.untyped_storage().data_ptr() not in weights and not cast:
                kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        batch = Batch(ids, many, {}, {}, np.arange(rows), np.arange(rows), images)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), hf.autocast("cpu", precision):
            hf.hidden_states(model, batch)
        with FlopCounterMode(display=False) as forward:
            states = hf.hidden_states(model, batch)
        with FlopCounterMode(display=False) as backward:
            states.sum().backward()
        size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
        found.append((size, forward.get_total_flops(), backward.get_total_flops()))
    passes, tuning = arithmetic.Passes(rows * length, length, images=rows), arithmetic.Tuning()
    assert arithmetic.activations(shape, tuning, passes, precision) == pytest.approx(found[1][0], rel=precisely)
    looking = sum(arithmetic.looked(shape, rows * length, rows))
    assert looking == found[1][1] - found[0][1]
    assert arithmetic.learning_to_look(shape, tuning, rows * length, rows) - looking == found[1][2] - found[0][2]
    vision = pictures.tower(folder, "cpu", 1).model.set_attn_implementation  # torch does not count its fused kernel for CPUs
    vision("eager")
    with FlopCounterMode(display=False) as counter:
        pictures.tower(folder, "cpu", 1).states(Image.new("RGB", (20, 20)))
    pixels = 2 * 4 * 16 * 3 * 8 * 8
    assert counter.get_total_flops() - pixels == arithmetic.seeing(replace(shape, sight=replace(sight, places=5)), 1)


def test_a_plan_counts_images_once_whatever_the_languages(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store = planned_on(data), Store.open(data.parent / "store")
    counts, todo = Counts(store, data), {stage.key: stage for stage in plan.stages}
    known = shapes(plan, store)
    assert [counts.images(cell.predict.rows) for cell in plan.cells] == [6, 6]
    assert image_states(todo, known, counts) == (12 + 3 + 6) * 5 * 16 * 4
    stage = trained(plan)
    sighted = next(iter(known.values()))
    both = [need(stage, shape, counts, "cpu") for shape in (sighted, replace(sighted, sight=None))]
    assert both[0].operations > both[1].operations and both[0].memory.kept > both[1].memory.kept
    tower = sighted.sight.tower if sighted.sight is not None else None
    assert tower is not None and both[0].memory.weights - both[1].memory.weights == 4 * tower.layers * tower.parameters
    monkeypatch.setattr(estimating, "_seconds", lambda *_: (None, "not measured"))
    with_images = estimating.estimate(plan, todo, store, data, 1)
    monkeypatch.setattr(estimating, "image_states", lambda *_: 0)
    assert with_images.disk_after - estimating.estimate(plan, todo, store, data, 1).disk_after == (12 + 3 + 6) * 5 * 16 * 4
