"""What a run says: a line for finished trainings, failures once, an estimate of the rest."""

import io

import pytest

from fake_engine import predict, train
from xstilts import progress
from xstilts.progress import Tally, label, shown, span
from xstilts.run import Began, Ended, Failed, Note, Stepped
from xstilts.stages import Pretrained, Progress

NAMES = {Pretrained("w").key: "mini"}


def test_labels():
    model = train("toy", train("nli", seed=4), seed=4)
    assert label(model, NAMES) == "mini > nli > toy, seed 4"
    assert label(predict(model, "qa", "sw"), NAMES) == "mini > nli > toy: qa in sw, seed 4"
    assert label(predict(Pretrained("w"), "qa", "sw"), NAMES) == "mini: qa in sw"
    assert label(train("toy"), {}).startswith(Pretrained("w").key[:12])


@pytest.mark.parametrize("seconds, text", [(0.04, "0.0 s"), (42.4, "42 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_span(seconds, text):
    assert span(seconds) == text


def test_the_rest_is_estimated_by_sort():
    stages = [train("toy", seed=seed) for seed in range(4)]
    tally = Tally({stage.key: stage for stage in stages}, jobs=2)
    assert tally.remaining() is None
    tally.take(Began(stages[0], 1))
    tally.take(Ended(stages[0], 1, 10.0))
    assert tally.remaining() == 3 * 10 / 2
    tally.take(Began(stages[1], 1))
    tally.take(Stepped(stages[1], 1, Progress(3, 4, 0.1, 6, 9.0)))
    assert tally.remaining() == (3 + 10 + 10) / 2
    tally.take(Failed(stages[1], "no"))
    tally.take(Ended(stages[2], None, None))
    tally.take(Ended(stages[3], 1, 30.0))
    assert tally.remaining() == 0 and tally.done == 3


def test_lines(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    monkeypatch.setattr(progress, "STEP_EVERY", 0.0)
    stages = [train("toy"), train("toy", seed=2), train("toy", seed=3)]
    answer = predict(stages[0])
    out = io.StringIO()
    with shown({stage.key: stage for stage in (*stages, answer)}, NAMES, 1, out) as take:
        take(Note("an entry is damaged"))
        take(Stepped(stages[0], 1, Progress(3, 4, 0.125, 6, 9.0)))
        take(Ended(stages[0], 1, 12.0))
        take(Ended(answer, 1, 1.0))
        take(Failed(stages[1], "the loss is nan"))
        take(Failed(stages[2], "the loss is nan"))
    assert out.getvalue().splitlines() == [
        "an entry is damaged",
        "[0/4] mini > toy, seed 1: step 3 of 4, loss 0.125",
        "[1/4] mini > toy, seed 1 (12 s)",
        "failed: mini > toy, seed 2: the loss is nan",
        "failed: mini > toy, seed 3",
    ]


def test_live(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    stage = train("toy")
    out = Terminal()
    with shown({stage.key: stage}, NAMES, 1, out) as take:
        take(Began(stage, 1))
        take(Stepped(stage, 1, Progress(3, 4, 0.125, 6, 1.5)))
        take(Failed(stage, "the loss is nan"))
    assert "failed: mini > toy, seed 1: the loss is nan" in out.getvalue()
