"""The Celery tasks: a wake-up, and the tick of beat. Neither names a step."""

import resource
import threading

from celery.signals import worker_process_init, worker_process_shutdown, worker_shutting_down

from shared.infra.settings import get_settings
from shared.queue.broker import WAKE_UP
from shared.store.workers import child_id
from worker.app import app
from worker.process import drain
from worker.process.runtime import Runtime, make_runtime, unique_pid
from worker.steps.run import Work, answer

_runtime: Runtime | None = None
_work: Work | None = None
_parent_id = ""


def install(runtime: Runtime, work: Work | None = None) -> None:
    """Set what the tasks of this process work with, and how they do the steps they claim."""
    global _runtime, _work
    _runtime, _work = runtime, work


def lead(worker_id: str, work: Work) -> None:
    """Set whose pool children the processes forked from this one will be, and what they do."""
    global _parent_id, _work
    _parent_id, _work = worker_id, work


def _installed() -> Runtime:
    assert _runtime is not None, "the worker was not started by `python -m worker`"
    return _runtime


# Wake-ups and ticks are not shown to those who watch tasks: steps are (worker.process.watched).
@app.task(name=WAKE_UP, send_events=False)
def wake_up(queue: str) -> None:
    """Do what is due in a queue."""
    assert _work is not None, "only roles that do steps consume their queues"
    answer(_installed(), queue, _work)


@app.task(name="sweep", send_events=False)
def sweep() -> None:
    """Requeue what died and wake workers for what waits."""
    from worker.upkeep.sweep import sweep as handler

    handler(_installed())


# Celery sends it from its handler of stop signals, and a second one may come while the handler of
# the first has this lock: were it not re-entrant, the worker would wait for itself for ever.
worker_shutting_down.lock = threading.RLock()


@worker_shutting_down.connect
def _drain(**_: object) -> None:
    drain.begin()


@worker_process_init.connect
def _open_child(**_: object) -> None:
    """Give a pool child its own connections, and a bound on what a hostile file can make it map."""
    if not _parent_id:
        return  # no child: Celery's solo pool says so of the worker itself
    settings = get_settings()
    limit = settings.prepare_memory_bytes
    # RLIMIT_DATA counts what is the process's own; RLIMIT_AS would count shared mappings too.
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    install(make_runtime(settings, child_id(_parent_id, unique_pid())), _work)


@worker_process_shutdown.connect
def _close_child(**_: object) -> None:
    if _runtime is not None:
        _runtime.close()
