"""The Celery tasks: a wake-up, and the sweep. Neither names a step."""

import resource
import threading

from celery.signals import worker_process_init, worker_process_shutdown, worker_shutting_down

from shared.infra.settings import get_settings
from shared.queue.broker import WAKE_UP
from shared.store.workers import child_id
from worker.app import app
from worker.process import drain
from worker.process.runtime import Runtime, make_runtime, unique_pid
from worker.steps.run import Answer

_runtime: Runtime | None = None
_answer: Answer | None = None
_parent_id = ""


def install(runtime: Runtime, answer: Answer | None = None) -> None:
    """Set what this process's tasks work with, and what answers wake-ups."""
    global _runtime, _answer
    _runtime, _answer = runtime, answer


def lead(worker_id: str, answer: Answer) -> None:
    """Set the worker whose pool children are forked from this process, and what they do."""
    global _parent_id, _answer
    _parent_id, _answer = worker_id, answer


def _installed() -> Runtime:
    assert _runtime is not None, "the worker was not started by `python -m worker`"
    return _runtime


# Watchers of tasks do not see wake-ups and sweeps, but steps (worker.process.watched).
@app.task(name=WAKE_UP, send_events=False)
def wake_up(queue: str) -> None:
    """Do the due steps of a queue."""
    assert _answer is not None, "only roles that do steps consume their queues"
    _answer(_installed(), queue)


@app.task(name="sweep", send_events=False)
def sweep() -> None:
    """Requeue steps of dead workers, and wake workers for what waits."""
    from worker.upkeep.sweep import sweep as handler

    handler(_installed())


# Celery sends this signal in its handler of stop signals. A second stop signal may come while the
# first one's handler holds this lock; a lock that is not re-entrant would be a deadlock.
worker_shutting_down.lock = threading.RLock()


@worker_shutting_down.connect
def _drain(**_: object) -> None:
    drain.begin()


@worker_process_init.connect
def _open_child(**_: object) -> None:
    """Give a pool child its own connections, and bound its memory."""
    if not _parent_id:
        return  # Celery's solo pool sends this signal, too, in the worker itself
    settings = get_settings()
    limit = settings.prepare_memory_bytes
    # RLIMIT_DATA counts the process's own memory; RLIMIT_AS would count shared mappings, too.
    # Decoders have the same limit; here it bounds what a bug of ours can do.
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    install(make_runtime(settings, child_id(_parent_id, unique_pid())), _answer)


@worker_process_shutdown.connect
def _close_child(**_: object) -> None:
    if _runtime is not None:
        _runtime.close()
