"""The process that the deployment commands go on as: `python -m xstilts.deploy COMMAND JSON`.

It is started with the threads of the numeric libraries set in its environment. As at the command line, an error that the user
can mend is one line on standard error and exit code 2.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xstilts.errors import ModelError, XstiltsError

if TYPE_CHECKING:
    from xstilts.deploy.bench import Plan


def main(command: str, asked: Mapping[str, Any]) -> None:
    """Carry out one command."""
    import torch

    torch.set_num_threads(asked["threads"])
    if command != "export" and asked["device"] == "cuda" and not torch.cuda.is_available():
        raise ModelError("no CUDA device on this machine; use --device cpu")
    {"export": _export, "serve": _serve, "bench": _bench}[command](asked)


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


def _serve(asked: Mapping[str, Any]) -> None:
    from xstilts.deploy.engines import load_all
    from xstilts.deploy.find import find_all
    from xstilts.deploy.serve import Limits, serve

    store, data = Path(asked["store"]), Path(asked["data"])
    models = [each for name in asked["models"] for each in find_all(name, store, data, asked["device"])]
    key = _key(asked["api_key"])
    if key is None and asked["host"] not in ("127.0.0.1", "::1", "localhost"):
        print(f"note: whoever reaches {asked['host']} may ask; --api-key FILE or XSTILTS_API_KEY changes that", file=sys.stderr)
    groups = load_all(models, asked["threads"], asked["device"], asked["batches"])
    serve(groups, asked["host"], asked["port"], Limits(**asked["limits"]), key, asked["batches"])


def _bench(asked: Mapping[str, Any]) -> None:
    from xstilts.deploy.bench import Plan, bench, said
    from xstilts.store import disk_error, write_json

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    where = {name: asked[name] for name in ("store", "data", "device", "threads", "task", "rows", "languages")}
    plan = Plan(tuple(asked["models"]), where, asked["seconds"], bound=asked["bound"])
    if asked["study"]:
        return _bench_study(asked, plan, tell)
    found = bench(plan, tell)
    if asked["out"] is not None:
        try:
            write_json(Path(asked["out"]), found)
        except OSError as error:
            raise disk_error(error, Path(asked["out"])) from error
    print(json.dumps(found, ensure_ascii=False, indent=1) if asked["json"] else said(found))


def _bench_study(asked: Mapping[str, Any], plan: Plan, tell: Callable[[str], None]) -> None:
    from xstilts.analysis import serving
    from xstilts.deploy.grid import bench_study
    from xstilts.report.serving import words
    from xstilts.store import Store

    study, store = asked["models"][0], Store.open(Path(asked["store"]))
    name, path = bench_study(study, [asked["task"]] if asked["task"] else [], asked["engines"], plan, tell)
    table = serving.stored(store, name)
    assert table is not None
    if asked["json"]:
        print(json.dumps(table, ensure_ascii=False, indent=1))
        return
    print("\n".join(words(serving.served(table, {row["key"] for row in table["measured"]}))))
    print(f"measured: {path}; xstilts report {study} shows it")


def _key(path: str | None) -> bytes | None:
    """The key of a file, else of the environment, else None. Raises ModelError for one that cannot be sent in a header."""
    try:
        text = Path(path).read_text("utf-8") if path is not None else os.environ.get("XSTILTS_API_KEY")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"--api-key {path}: {error}") from None
    if text is None:
        return None
    if not (text.strip().isascii() and text.strip().isprintable() and text.strip()):
        raise ModelError(f"{path or 'XSTILTS_API_KEY'}: a key is one line of printable ASCII characters")
    return text.strip().encode()


if __name__ == "__main__":
    try:
        main(sys.argv[1], json.loads(sys.argv[2]))
    except XstiltsError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
