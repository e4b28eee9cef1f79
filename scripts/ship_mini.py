"""Makes the encoders of the embedded benchmark anew from their recipes and puts them where the package reads them.

    python scripts/ship_mini.py [mini-small ...]

A draft is kept under --drafts and gone on with after an interruption.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch

from xstilts.engine.pretrain import pretrain
from xstilts.pretraining import pretrain_stage

ENCODERS = Path(__file__).parent.parent / "src" / "xstilts" / "mini" / "encoders"


def ship(name: str, drafts: Path) -> None:
    """Make one encoder and copy it, with its log and provenance."""
    torch.set_num_threads(1)
    stage = pretrain_stage(name, Path())
    out = drafts / stage.key[:12] / "out"
    pretrain(stage, Path(), out.parent, lambda at: print(f"{name}: step {at.step} of {at.steps}, loss {at.loss:.3f}"), lambda: False)
    shutil.rmtree(ENCODERS / name, ignore_errors=True)
    shutil.copytree(out / "encoder", ENCODERS / name)
    for part in ("log.json", "provenance.json"):
        shutil.copy(out / part, ENCODERS / name / part)
    vocabulary = ENCODERS / name / "tokenizer.json"
    told = json.loads(vocabulary.read_text(encoding="utf-8"))  # half as large without its white space
    vocabulary.write_text(json.dumps(told, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["mini-small", "mini-base", "mini-large"])
    parser.add_argument("--drafts", type=Path, default=Path("mini-drafts"))
    given = parser.parse_args()
    for each in given.names:
        ship(each, given.drafts)
