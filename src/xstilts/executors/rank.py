"""One of the processes of a training, started by torchrun: `python -m xstilts.executors.rank JOB`; see `torchrun`.

It carries out the stage together with the others. The first says how far it is and how it ended; any says why it failed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from xstilts.errors import TrainingError
from xstilts.executors.carry import Place, carry_out
from xstilts.executors.worker import outcome, places, throttled
from xstilts.stages import Layout, Pretrained, from_plain
from xstilts.store import Store

# Who loses the connection to a process that died waits with its own end, so that torchrun names the one that died first.
AFTER_YOU = 3.0
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "DistBackendError", "DistNetworkError")


def main(path: str) -> None:
    """Carry out the stage of the job file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = os.environ["RANK"] == "0"
    # Whatever a library prints must not end up between our lines.
    lines = os.dup(1)
    os.dup2(2, 1)
    stop = threading.Event()
    threading.Thread(target=_listen, args=(sys.stdin, stop), daemon=True).start()

    def say(event: Mapping[str, object]) -> None:
        os.write(lines, (json.dumps(event, ensure_ascii=False) + "\n").encode())  # one write, so that lines do not mix

    job = json.loads(Path(path).read_text("utf-8"))
    stage = from_plain(job["stage"])
    assert not isinstance(stage, Pretrained)
    store, layout = Store(Path(job["store"])), Layout(**job["layout"])
    emit = throttled(stage.key, say) if first else lambda progress: None

    def work() -> None:
        from xstilts.engine.parallel import joined

        with joined(stage.runtime.device, layout.parallel) as team:
            where = places(job["where"])
            place = Place(store, Path(job["data"]), store.draft(stage.key), where, job["offline"], emit, stop.is_set, layout, team)
            try:
                carry_out(stage, place)
            except RuntimeError as error:
                if not any(words in f"{type(error).__name__}: {error}" for words in _LOST):
                    raise
                traceback.print_exc()
                time.sleep(AFTER_YOU)
                raise TrainingError(f"the connection to another process was lost ({str(error).splitlines()[0]})") from None

    event = outcome(stage.key, store.path, work)
    if first or event["event"] == "failed":
        say(event)
    os._exit(event["event"] == "failed")


def _listen(source: IO[str], stop: threading.Event) -> None:
    for _ in source:
        stop.set()
    os._exit(1)  # whoever started us is gone, and with him the lock on the stage


if __name__ == "__main__":
    main(sys.argv[1])
