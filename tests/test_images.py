"""Texts about images: tiny BLIP models with random weights, tiny images; read, planned, trained, stopped, resumed, scored, loaded again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
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
from typer.testing import CliRunner

from families_maker import make
from study_maker import file_hash
from xstilts.cli import app
from xstilts.engine import hf, pictures
from xstilts.engine import predict as predicting
from xstilts.engine import train as training
from xstilts.engine.batch import Columns, batch_of
from xstilts.engine.classify import encode
from xstilts.errors import DataError, ModelError, Stopped, StudyError
from xstilts.examples import Example, Text
from xstilts.executors.carry import Place, carry_out
from xstilts.plan import Plan, make_plan
from xstilts.rows import check, load
from xstilts.stages import Predict, Runtime, Train
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
    assert (last.id, last.group, last.image) == ("train-27", "101", str(data / "xvnli/images/101.jpg"))  # type: ignore[union-attr]


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
    swapped = [replace(row, image=other.image) for row, other in zip(rows, reversed(rows), strict=True)]  # type: ignore[type-var,union-attr]
    others = states(encoder, columns(swapped, folder, tmp_path / "cache"), list(range(len(rows)))).split(made.lengths.tolist())
    for one, other in zip(together, others, strict=True):
        assert float((one - other).abs().max()) > 1e-2


def test_an_image_goes_through_the_tower_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, calls = blip(tmp_path / "m"), []
    inner = pictures.Tower.states
    monkeypatch.setattr(pictures.Tower, "states", lambda self, image: calls.append(1) or inner(self, image))  # type: ignore[func-returns-value]
    plan, bench = planned_on(data), Bench(data)
    bench.run(plan)  # 12 images in training, 3 in dev, 6 in each of two tests, whose images are the same
    assert len(calls) == 12 + 3 + 6
    bench.run(planned_on(data, seeds=[0, 1]))
    assert len(calls) == 12 + 3 + 6
    shutil.copy(data / "xvnli/images/100.jpg", data / "xvnli/images/300.jpg")  # known by its bytes, whatever its name
    bench.run(planned_on(data))
    assert len(calls) == 12 + 3 + 6
    state = load_file(folder / "model.safetensors")
    state["vision_model.post_layernorm.weight"] += 1
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    pictures.tower.cache_clear()
    bench.run(planned_on(data))
    assert len(calls) == 2 * (12 + 3 + 6) - 1
