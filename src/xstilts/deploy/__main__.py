"""The process that the deployment commands go on as: `python -m xstilts.deploy COMMAND JSON`.

It is started with the threads of the numeric libraries set in its environment. As at the command line, an error that the user
can mend is one line on standard error and exit code 2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xstilts.errors import XstiltsError


def main(command: str, asked: Mapping[str, Any]) -> None:
    """Carry out one command."""
    import torch

    torch.set_num_threads(asked["threads"])
    {"export": _export}[command](asked)


def _export(asked: Mapping[str, Any]) -> None:
    from xstilts.deploy.export import export, told
    from xstilts.deploy.find import find

    data, out = Path(asked["data"]), Path(asked["out"]).absolute()
    found = find(asked["model"], Path(asked["store"]), data, asked["device"], asked["task"])
    spec = export(found, asked["format"], asked["precision"], out, data, asked["rows"])
    if asked["json"]:
        print(json.dumps({"folder": str(out), **asdict(spec)}, ensure_ascii=False, indent=1))
    else:
        print(told(spec))
        print(f"exported: {out}")


if __name__ == "__main__":
    try:
        main(sys.argv[1], json.loads(sys.argv[2]))
    except XstiltsError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
