"""``python faulty_worker.py ROLE``: ``python -m worker ROLE`` with faults.

The engine kills its process when it hears one word, and never returns when it hears another. What
the process writes says that it has written it (``changes.sign_changes``). Six variables of the
environment change more:

FAULTY_PACE_S    seconds that each batch, and each file's preparation, takes longer, so that faults
                 find steps in hand
FAULTY_GATE      a file; while it exists no batch gets its result (FILE.reached: one waits)
FAULTY_LOAD      a file; while it exists no model is loaded (FILE.reached: one waits); its text, if
                 it has any, is why it cannot be
FAULTY_BUG       a file; while it exists every file that is prepared meets a bug
FAULTY_SCHEMA    a folder of migrations: the worker is of a version that has these
FAULTY_UNFENCED  any value: writes of this worker are not fenced, to see what the fence is good for
FAULTY_COUNT     any value: the worker counts none of its children's results; it may miss one
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from celery.concurrency.asynpool import ResultHandler
from sqlalchemy import Connection, text

import worker.engines.oracle
import worker.steps.prepare
from shared.infra import schema
from shared.infra.errors import ModelError
from shared.store import steps
from shared.store.steps import Claim, claims, completion
from worker.engines.oracle import OracleEngine, word_text
from worker.engines.protocol import Prepared
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime
from worker.steps.prepare import prepare

sys.path.append(str(Path(__file__).parents[2]))  # the command line starts its programs without it
from harness.database.changes import sign_changes

CRASHES, HANGS = 0xDEAD, 0xBEEF
"""Numbers whose words no other test may use."""


class TouchyOracle(OracleEngine):
    """An oracle that dies of one word and hangs at another."""

    def __init__(self) -> None:
        """Load it, once that is possible."""
        await_gate(os.environ.get("FAULTY_LOAD"))

    def infer(self, batch: Sequence[Prepared[Any]]) -> list[Any]:
        """Return the words, if it lives."""
        hypotheses = super().infer(batch)
        heard = {word.text for hypothesis in hypotheses for word in hypothesis.words}
        if word_text(CRASHES) in heard:
            os.kill(os.getpid(), signal.SIGKILL)
        if word_text(HANGS) in heard:
            threading.Event().wait()
        time.sleep(float(os.environ.get("FAULTY_PACE_S", "0")))
        await_gate(os.environ.get("FAULTY_GATE"))
        return hypotheses


def await_gate(gate: str | None) -> None:
    """Wait while a file exists; raise what it says, if it says something.

    Raises:
        ModelError: with the file's text.
    """
    while gate:
        try:
            why = Path(gate).read_text()
        except FileNotFoundError:
            return
        if why:
            raise ModelError(why)
        Path(f"{gate}.reached").touch()
        time.sleep(0.01)


def prepare_slowly(runtime: Runtime, lease: Lease) -> None:
    """Prepare, after a while."""
    time.sleep(float(os.environ["FAULTY_PACE_S"]))
    prepare(runtime, lease)


def prepare_with_a_bug(runtime: Runtime, lease: Lease) -> None:
    """Prepare, unless there is a bug, as a library of an unforeseen version may have one."""
    if Path(os.environ["FAULTY_BUG"]).exists():
        raise TypeError(f"no two of its messages are equal: {time.time_ns()}")
    prepare(runtime, lease)


def lock_only(connection: Connection, claim: Claim, *, to_reap: bool = False) -> None:
    """Take the locks that ``claims.fence`` takes, and check nothing."""
    connection.execute(
        text("SELECT FROM jobs WHERE id = :id FOR NO KEY UPDATE"), {"id": claim.job_id}
    )
    connection.execute(
        text("SELECT FROM steps WHERE id = :id FOR NO KEY UPDATE"), {"id": claim.step_id}
    )


def unfence(replace: Callable[[ModuleType, str, object], None] = setattr) -> None:
    """Have no write fenced that is made in this process; ``replace`` sets a module's attribute."""
    for name, module in [*sys.modules.items()]:
        is_writer = name.startswith(f"{steps.__name__}.") and module is not claims
        if is_writer and getattr(module, "fence", None) is claims.fence:
            replace(module, "fence", lock_only)
    fenced = completion._COMPLETE_CHUNKS.text
    unfenced = fenced.replace("AND steps.epoch = item.epoch AND steps.state = 'running'", "")
    assert unfenced != fenced
    replace(completion, "_COMPLETE_CHUNKS", text(unfenced))


def count_no_results() -> None:
    """Have a pool not know how many tasks its children have done."""
    start = ResultHandler.__init__

    def start_without_counters(self: Any, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options | {"on_ready_counters": None})

    ResultHandler.__init__ = start_without_counters


if __name__ == "__main__":
    sign_changes()
    worker.engines.oracle.OracleEngine = TouchyOracle  # type: ignore[misc]
    if os.environ.get("FAULTY_PACE_S"):
        worker.steps.prepare.prepare = prepare_slowly
    if os.environ.get("FAULTY_BUG"):
        worker.steps.prepare.prepare = prepare_with_a_bug
    if os.environ.get("FAULTY_UNFENCED"):
        unfence()
    if os.environ.get("FAULTY_COUNT"):
        count_no_results()
    if os.environ.get("FAULTY_SCHEMA"):
        schema.MIGRATIONS = Path(os.environ["FAULTY_SCHEMA"])
    from worker.__main__ import main

    main()
