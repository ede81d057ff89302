"""Running one step: claim it, keep its lease, do its work, and write how it ended."""

import logging
from collections.abc import Callable

from shared.infra.errors import (
    DatabaseUnavailable,
    LeaseLost,
    PermanentError,
    TransientError,
    WorkerStopping,
)
from shared.store import steps
from shared.store.objects.removals import report_late_audio
from shared.store.states import StepKind
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime

log = logging.getLogger(__name__)

Handler = Callable[[Runtime, Lease], None]
"""Does a step's work, up to and including its completion."""


def run_step(runtime: Runtime, step_id: int, handler: Handler) -> None:
    """Answer a message: claim the step, run ``handler`` on it, and write how it ended.

    When Postgres is away that cannot be written, and the lease is left to expire.

    Raises:
        LonghandError: why the step was not done. All that follows from it has been done: it is
            raised for those who watch Celery's events.
    """
    try:
        claim = steps.claim(
            runtime.database, step_id, owner=runtime.owner, lease_s=runtime.settings.lease_s
        )
        if claim is None:
            log.info("step %d: nothing to claim", step_id)
            return
        with runtime.heartbeat.hold(claim) as lease:
            try:
                _work(runtime, lease, handler)
                runtime.record.note_success(claim.kind)
            except LeaseLost:
                if claim.kind == StepKind.PREPARE:
                    report_late_audio(runtime.database, claim.job_id)
                raise
    except LeaseLost as error:
        log.warning("%s: its result is dropped", error)
        raise
    except DatabaseUnavailable as error:
        log.warning("%s: step %d is left to the reaper", error, step_id)
        raise
    finally:
        runtime.doorbell.ring()


def _work(runtime: Runtime, lease: Lease, handler: Handler) -> None:
    """Run the handler; an error of the step's own is written down before it is passed on."""
    database, claim, settings = runtime.database, lease.claim, runtime.settings
    try:
        handler(runtime, lease)
    except PermanentError as error:
        steps.fail(database, claim, error)
        raise
    except WorkerStopping:
        steps.release(database, claim)
        raise
    except (LeaseLost, DatabaseUnavailable):
        raise
    except TransientError as error:
        steps.retry(database, claim, error, base_s=settings.retry_base_s)
        raise
    except Exception as error:  # a bug must cost an attempt, not a lease of silence
        log.exception("step %d (%s): unexpected error", claim.step_id, claim.kind)
        bug = runtime.record.note_bug(claim.step_id, claim.kind, error)
        steps.retry(database, claim, bug, base_s=settings.retry_base_s)
        raise bug from error
