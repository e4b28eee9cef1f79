"""How fast this machine trains and predicts: `python -m xstilts.executors.calibrate '{"hidden": 64, ...}'`.

Prints {"training": operations a second, "prediction": the same, "launch": ..., "start": ..., "update": ...} as `estimate.Speed` has
them, for random layers of the given width, run as the engine runs a stage's. Steps of two sizes tell what grows with the tokens.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial

from xstilts import arithmetic

LENGTH = 32  # tokens a row
SMALL, LARGE = 4, 64  # rows of the two steps; of layers above WIDE numbers the large one has a quarter
WIDE = 40_000_000
NUMBERS = 60_000_000  # no more layers than have so many numbers, but for one
PIECES = 1000
SECONDS = 1.0  # of each measurement, after one step to warm up


def main(asked: str) -> None:
    """Measure and print."""
    import numpy as np
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    from xstilts.engine import hf
    from xstilts.engine.batch import Batch
    from xstilts.engine.dropout import Draws, replace_dropouts

    want = json.loads(asked)
    torch.set_num_threads(want["threads"])
    torch.manual_seed(0)
    device, precision = want["device"], want["precision"]
    sizes = {"hidden_size": want["hidden"], "num_attention_heads": want["heads"], "intermediate_size": want["inner"], "pad_token_id": 1}
    one = 4 * want["hidden"] ** 2 + 2 * want["hidden"] * want["inner"]
    layers = max(1, min(want["layers"], NUMBERS // one))
    config = XLMRobertaConfig(vocab_size=PIECES, num_hidden_layers=layers, attention_probs_dropout_prob=0.0, **sizes)
    model = XLMRobertaModel(config, add_pooling_layer=False).to(device)
    hf.pack(model)
    draws = Draws(0.1, 0)
    replace_dropouts(model, draws)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    shape = arithmetic.shape(config.to_dict())

    def batch(rows: int) -> Batch:
        ids, numbers = torch.randint(2, PIECES, (rows * LENGTH,), device=device), np.arange(rows)
        draws.at(0, numbers, np.full(rows, LENGTH))
        return Batch(ids, np.full(rows, LENGTH), {}, {}, numbers, numbers)

    def train(rows: int) -> None:
        with hf.autocast(device, precision):
            loss = hf.hidden_states(model, batch(rows)).float().square().mean()
        torch.autograd.backward(loss)

    def predict(rows: int) -> None:
        with torch.inference_mode(), hf.autocast(device, precision):
            hf.hidden_states(model, batch(rows))

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()

    large = LARGE // 4 if one > WIDE else LARGE
    tokens = [rows * LENGTH for rows in (SMALL, large)]
    train(large)
    took = _took(update, device)
    training = [arithmetic.training(shape, arithmetic.Tuning(), n, n * LENGTH) for n in tokens]
    trained = [_took(partial(train, rows), device) for rows in (SMALL, large)]
    rate, launch = _line(training, trained)
    model.eval()
    prediction = [arithmetic.forward(shape, n, n * LENGTH) for n in tokens]
    predicted = [_took(partial(predict, rows), device) for rows in (SMALL, large)]
    other, start = _line(prediction, predicted)
    numbers = sum(p.numel() for p in model.parameters())
    print(json.dumps({"training": rate, "prediction": other, "launch": launch / layers, "start": start / layers, "update": took / numbers}))


def _line(operations: list[float], seconds: list[float]) -> tuple[float, float]:
    """Operations a second and seconds beside them, of two steps; all of it is rate where the smaller step tells no more."""
    rate = (operations[1] - operations[0]) / max(1e-9, seconds[1] - seconds[0])
    beside = seconds[0] - operations[0] / rate
    if seconds[1] <= seconds[0] or beside < 0:
        return operations[1] / seconds[1], 0.0
    return rate, beside


def _took(step: Callable[[], None], device: str) -> float:
    """Seconds of a step, the mean of those that fit into SECONDS."""
    import torch

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    step()
    wait()
    began, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - began < SECONDS:
        step()
        steps += 1
        wait()
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    main(sys.argv[1])
