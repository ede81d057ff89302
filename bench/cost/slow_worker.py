"""``python slow_worker.py N model --model ID``: workers whose oracle takes long for a batch.

It belongs to the tree that is on the path, and knows of it no more than the names below. It says
'loaded' once its code is. When a line comes in it forks N workers, each a process like any other
that shares the memory of what was imported; when its input ends it stops them and ends.

SLOW_BATCH_S   seconds that each batch takes at least; it sleeps for those that the oracle leaves
SLOW_CALLS     a file into which each worker writes, as ``CALLS``, its calls and the time in them
"""

import functools
import gc
import importlib
import mmap
import os
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

_LOADED_AHEAD = (
    "celery.apps.worker",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "kombu.transport.redis",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "boto3",
    "worker.steps.transcribe",
)
_INFERENCE = ("infer", "transcribe")
"""What an engine's call for a batch is named: in three acts, or in one."""


CALLS = struct.Struct("qd")
"""Number of the calls of a worker's engine that have ended, and the seconds within them."""


class Calls:
    """What the workers write into the file, each at its own place."""

    def __init__(self, path: str, n_workers: int) -> None:
        """Make the file; workers that are forked later write into it."""
        with Path(path).open("w+b") as file:
            file.truncate(n_workers * CALLS.size)
            self._file = mmap.mmap(file.fileno(), 0)
        self.place = 0
        """Of this worker."""

    def note(self, seconds: float) -> None:
        """Note a call that has ended."""
        at = self.place * CALLS.size
        n, total_s = CALLS.unpack_from(self._file, at)
        CALLS.pack_into(self._file, at, n + 1, total_s + seconds)


def slow_down(engine: Any, batch_s: float, calls: Calls) -> None:
    """Have every batch of an engine's class take ``batch_s`` at least."""
    name = next(name for name in _INFERENCE if hasattr(engine, name))
    infer = getattr(engine, name)

    @functools.wraps(infer)
    def slow(*arguments: Any, **named: Any) -> Any:
        began = time.monotonic()
        try:
            return infer(*arguments, **named)
        finally:
            time.sleep(max(0.0, began + batch_s - time.monotonic()))
            calls.note(time.monotonic() - began)

    setattr(engine, name, slow)


def fork(n_workers: int, calls: Calls) -> list[int]:
    """Fork workers and return their pids; in each of them return none."""
    pids = []
    for place in range(n_workers):
        pid = os.fork()
        if pid == 0:
            calls.place = place
            return []
        pids.append(pid)
    return pids


if __name__ == "__main__":
    n_workers = int(sys.argv.pop(1))
    for module in _LOADED_AHEAD:
        importlib.import_module(module)
    oracle = importlib.import_module("worker.engines.oracle")
    calls = Calls(os.environ["SLOW_CALLS"], n_workers)
    slow_down(oracle.OracleEngine, float(os.environ["SLOW_BATCH_S"]), calls)
    gc.freeze()  # a collection would write to the pages that the workers share
    print("loaded", flush=True)
    sys.stdin.readline()
    if pids := fork(n_workers, calls):
        sys.stdin.read()
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        for pid in pids:
            os.waitpid(pid, 0)
    else:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (sys.stdin, sys.stdout):
            os.dup2(nothing, stream.fileno())
        importlib.import_module("worker.__main__").main()
