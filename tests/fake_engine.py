"""Stages that only count: what the scheduling tests run in real worker processes in place of the engine.

The name of a stage's task says how it behaves; every step is a line in `steps.txt` below the data folder.
"""

import errno
import json
import os
import signal
import time

from xstilts.errors import Stopped, TrainingError
from xstilts.stages import Predict, Pretrained, Progress, Recipe, Rows, Runtime, Share, Train


def rows(task, language="en"):
    return Rows(task, 1, "train", "train", language, "00" * 32)


def train(task, start=None, seed=1, steps=3, threads=1):
    recipe = Recipe(steps=steps, batch=2, max_length=8)
    return Train(start or Pretrained("w"), (Share(rows(task)),), (), recipe, seed, Runtime(threads=threads))


def predict(model, task="toy", language="en", threads=1):
    return Predict(model, rows(task, language), 8, 0, Runtime(threads=threads))


def note(place, text):
    with open(place.data / "steps.txt", "a") as file:
        file.write(text + "\n")


def work(stage, place):
    name = (stage.mix[0].rows if isinstance(stage, Train) else stage.rows).task
    out = place.draft / "out"
    start = stage.start if isinstance(stage, Train) else stage.model
    before = 0.5
    if not isinstance(start, Pretrained):
        folder = place.store.find_weights(start.key)
        before = json.loads((folder / "heads.safetensors").read_text())
    if isinstance(stage, Predict):
        note(place, f"predict {name} {stage.rows.language} {stage.key} by {os.getpid()}")
        (out / "predictions.parquet").write_text(json.dumps(before))
        (out / "facts.json").write_text(json.dumps({"seconds": 0.1, "tokens": 5}))
        return
    if name == "bad":
        raise TrainingError("bad: the loss is nan at step 1")
    if name == "crash":
        raise ZeroDivisionError("a defect")
    if name == "full in other words":  # as NumPy says it
        raise ValueError("200000 requested and 38384 written")
    if name == "full":
        raise OSError(errno.ENOSPC, "No space left on device", str(out / "x"))
    (place.data / "began").touch()
    state = place.draft / "state.json"
    step, value = json.loads(state.read_text()) if state.exists() else (0, before)
    while step < stage.recipe.steps:
        if name == "dies" and step == 2 and not (place.data / "died").exists():
            (place.data / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "always-dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(os.environ.get("FAKE_STEP", "0")))
        value = (value * 3.7 * (1 - value)) % 1.0  # depends on every step before
        step += 1
        note(place, f"step {name} {stage.key[:8]} {step} by {os.getpid()}")
        part = place.draft / "state.part"
        part.write_text(json.dumps([step, value]))
        part.rename(state)
        place.emit(Progress(step, stage.recipe.steps, 1.0 / step, 2 * step, 0.1 * step))
        if place.stop() and step < stage.recipe.steps:
            raise Stopped(f"stopped at step {step}")
    (out / "heads.safetensors").write_text(json.dumps(value))
    (out / "log.json").write_text(json.dumps({"steps": step, "seconds": 0.1, "dev": 100 * value, "losses": [[1, 0.5]]}))
