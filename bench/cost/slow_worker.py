"""``python slow_worker.py N model --model ID``: workers whose oracle takes long for a batch.

It belongs to the tree that is on the path, and knows of it no more than the names below. It says
'loaded' once its code is. When a line comes in it forks N workers, each a process like any other
that shares the memory of what was imported; when its input ends it stops them and ends.

SLOW_BATCH_S   seconds that each batch takes longer, without CPU time
"""

import functools
import gc
import importlib
import os
import signal
import sys
import time
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


def slow_down(engine: Any, batch_s: float) -> None:
    """Have every batch of an engine's class take longer."""
    name = next(name for name in _INFERENCE if hasattr(engine, name))
    infer = getattr(engine, name)

    @functools.wraps(infer)
    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(batch_s)
        return infer(*arguments, **named)

    setattr(engine, name, slow)


def fork(n_workers: int) -> list[int]:
    """Fork workers and return their pids; in each of them return none."""
    pids = []
    for _ in range(n_workers):
        pid = os.fork()
        if pid == 0:
            return []
        pids.append(pid)
    return pids


if __name__ == "__main__":
    for module in _LOADED_AHEAD:
        importlib.import_module(module)
    oracle = importlib.import_module("worker.engines.oracle")
    slow_down(oracle.OracleEngine, float(os.environ["SLOW_BATCH_S"]))
    gc.freeze()  # a collection would write to the pages that the workers share
    print("loaded", flush=True)
    sys.stdin.readline()
    if pids := fork(int(sys.argv.pop(1))):
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
