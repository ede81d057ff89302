"""``python slow_worker.py model --model ID``: a worker whose oracle takes a fixed time for a batch.

It belongs to the tree that is on the path, and knows of it no more than the names below. It says
'loaded' once its code is, and begins when a line comes in: many start together.

SLOW_BATCH_S   seconds that each batch takes longer, without CPU time
"""

import functools
import importlib
import os
import sys
import time
from typing import Any

_LOADED_AHEAD = (
    "celery.apps.worker",
    "celery.concurrency.thread",
    "kombu.transport.redis",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "boto3",
    "worker.tasks",
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


if __name__ == "__main__":
    for module in _LOADED_AHEAD:
        importlib.import_module(module)
    oracle = importlib.import_module("worker.engines.oracle")
    slow_down(oracle.OracleEngine, float(os.environ["SLOW_BATCH_S"]))
    print("loaded", flush=True)
    sys.stdin.readline()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    importlib.import_module("worker.__main__").main()
