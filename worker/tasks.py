"""The Celery tasks: thin doors to the step handlers. A message names one step, nothing else.

What they throw has been dealt with; Celery's events tell it to those who watch.
"""

import resource
import threading

from celery.signals import worker_process_init, worker_process_shutdown, worker_shutting_down

from shared.infra.errors import LonghandError
from shared.infra.settings import get_settings
from shared.store.workers import child_id
from worker.app import app
from worker.process import drain
from worker.process.runtime import Runtime, make_runtime, unique_pid

_runtime: Runtime | None = None
_parent_id = ""


def install(runtime: Runtime) -> None:
    """Set what the tasks of this process work with."""
    global _runtime  # noqa: PLW0603 - Celery gives tasks no other way to reach their process's state
    _runtime = runtime


def lead(worker_id: str) -> None:
    """Name the worker whose pool children the processes forked from this one will be."""
    global _parent_id  # noqa: PLW0603 - as above
    _parent_id = worker_id


def _installed() -> Runtime:
    assert _runtime is not None, "the worker was not started by `python -m worker`"
    return _runtime


@app.task(name="prepare", throws=(LonghandError,))
def prepare(step_id: int) -> None:
    """Decode a job's source and plan its chunks."""
    from worker.steps.prepare import prepare as handler
    from worker.steps.run import run_step

    run_step(_installed(), step_id, handler)


@app.task(name="detect", throws=(LonghandError,))
def detect(step_id: int) -> None:
    """Find a job's language."""
    from worker.steps.detect import detect as handler
    from worker.steps.run import run_step

    run_step(_installed(), step_id, handler)


@app.task(name="transcribe", throws=(LonghandError,))
def transcribe(step_id: int) -> None:
    """Infer one chunk."""
    from worker.steps.run import run_step
    from worker.steps.transcribe import transcribe as handler

    run_step(_installed(), step_id, handler)


@app.task(name="finish", throws=(LonghandError,))
def finish(step_id: int) -> None:
    """Stitch a job's chunks into its transcript."""
    from worker.steps.finish import finish as handler
    from worker.steps.run import run_step

    run_step(_installed(), step_id, handler)


@app.task(name="deliver", throws=(LonghandError,))
def deliver(step_id: int) -> None:
    """Make one attempt to deliver a webhook event."""
    from worker.steps.deliver import deliver as handler
    from worker.steps.run import run_step

    run_step(_installed(), step_id, handler)


@app.task(name="sweep", send_events=False)  # every few seconds: it would drown the steps
def sweep() -> None:
    """Requeue what died and ring for what waits."""
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
    install(make_runtime(settings, child_id(_parent_id, unique_pid())))


@worker_process_shutdown.connect
def _close_child(**_: object) -> None:
    if _runtime is not None:
        _runtime.close()
