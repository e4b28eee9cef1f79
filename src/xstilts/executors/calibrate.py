"""How fast this machine trains and predicts: `python -m xstilts.executors.calibrate '{"hidden": 64, ...}'`.

Prints {"Train": [tokens a second, peak MB], "Predict": [...]} for a random encoder of the given size.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

LENGTH = 32  # tokens a row
ROWS = 32
SECONDS = 1.5  # of each measurement, after one step to warm up


def main(asked: str) -> None:
    """Measure and print."""
    import torch
    from transformers import BertConfig, BertModel

    from xstilts.engine.hf import autocast

    want = json.loads(asked)
    torch.set_num_threads(want["threads"])
    torch.manual_seed(0)
    hidden = want["hidden"]
    config = BertConfig(
        vocab_size=want["vocab"],
        hidden_size=hidden,
        num_hidden_layers=want["layers"],
        num_attention_heads=next(n for n in (12, 8, 6, 4, 2, 1) if hidden % n == 0),
        intermediate_size=4 * hidden,
    )
    model = BertModel(config).to(want["device"])
    ids = torch.randint(0, want["vocab"], (ROWS, LENGTH), device=want["device"])
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def train() -> None:
        with autocast(want["device"], want["precision"]):
            loss = model(input_ids=ids).last_hidden_state.float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def predict() -> None:
        with torch.inference_mode(), autocast(want["device"], want["precision"]):
            model(input_ids=ids)

    print(json.dumps({"Predict": [_rate(predict), _peak()], "Train": [_rate(train), _peak()]}))


def _rate(step: Callable[[], None]) -> float:
    step()
    began, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - began < SECONDS:
        step()
        steps += 1
    return steps * ROWS * LENGTH / (time.perf_counter() - began)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    main(sys.argv[1])
