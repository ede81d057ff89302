"""Answering a wake-up: claim what is due, keep the leases, do the work, write how it ended."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from shared.infra import logs
from shared.infra.errors import (
    DatabaseUnavailable,
    LargeFile,
    LeaseLost,
    LonghandError,
    PermanentError,
    TransientError,
    WorkerStopping,
)
from shared.store import steps
from shared.store.objects.removals import report_late_audio
from shared.store.states import StepKind
from worker.process import drain
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime

log = logging.getLogger(__name__)

_PAUSE_S = 0.05
"""Before another look, while other workers are claiming all that is due."""

KEEP_GOING_S = 60.0
"""How long one wake-up may find more work: Celery bounds the time of its task, not of a step."""

Handler = Callable[[Runtime, Lease], LonghandError | None]
"""Does a step's work, up to and including its completion. What it returns is shown to watchers as a
failure."""

Work = Callable[[Runtime, Sequence[Lease]], None]
"""Does the work of all steps that were claimed at once."""

Answer = Callable[[Runtime, str], None]
"""Answers a wake-up for a queue."""


def answer(runtime: Runtime, queue: str, work: Work) -> None:
    """Claim the fairest due steps of a queue and do them, until no more are due.

    When Postgres is away this returns, and the sweep wakes a worker later.
    """
    until = time.monotonic() + KEEP_GOING_S
    while not drain.claims_nothing(queue):
        try:
            taken = steps.claim_next(
                runtime.database,
                queue,
                owner=runtime.owner,
                lease_s=runtime.settings.lease_s,
                limit=runtime.room(),
            )
        except DatabaseUnavailable as error:
            log.warning("%s: no step is claimed", error)
            return
        if taken.claims:
            with runtime.heartbeat.hold(taken.claims) as leases:
                work(runtime, leases)
        if not taken.more:
            return
        if time.monotonic() >= until or runtime.gives_way():
            runtime.wakeups.ring(queue, 1)
            return
        if not taken.claims:
            time.sleep(_PAUSE_S)


def one_by_one(handlers: Mapping[StepKind, Handler]) -> Work:
    """Return the work of a role that has a handler for each kind of step."""

    def work(runtime: Runtime, leases: Sequence[Lease]) -> None:
        for lease in leases:
            run_step(runtime, lease, handlers[lease.claim.kind])

    return work


def run_step(runtime: Runtime, lease: Lease, handler: Handler) -> None:
    """Do a step's work and write how it ended."""
    claim = lease.claim
    shown, span = runtime.watched.begin(claim), steps.begin_attempt(claim)
    with span.active(), logs.bound(job_id=claim.job_id, step_id=claim.step_id):
        try:
            failure = handler(runtime, lease)
        except Exception as error:  # noqa: BLE001 - settled by its class
            was_held = settle(runtime, claim, error)
            shown.end(error)
            steps.end_attempt(runtime.database, claim, span, error, was_held=was_held)
        else:
            runtime.record.note_success(claim.kind)
            shown.end(failure)
            span.end(failure)


def settle(runtime: Runtime, claim: steps.Claim, error: Exception) -> bool:
    """Fail, retry or release a step whose work ended with an error.

    When Postgres is away nothing can be written, and the lease expires. Returns whether the claim
    was not void, as far as is known.
    """
    database, settings = runtime.database, runtime.settings
    try:
        match error:
            case PermanentError():
                steps.fail(database, claim, error)
            case WorkerStopping() | LargeFile():
                steps.release(database, claim)
            case LeaseLost() | DatabaseUnavailable():
                raise error
            case TransientError():
                steps.retry(database, claim, error, base_s=settings.retry_base_s)
            case _:  # a bug must cost an attempt, not a lease of silence
                log.error(
                    "step %d (%s): unexpected error", claim.step_id, claim.kind, exc_info=error
                )
                bug = runtime.record.note_bug(claim.step_id, claim.kind, error)
                steps.retry(database, claim, bug, base_s=settings.retry_base_s)
    except LeaseLost as lost:
        if claim.kind in (StepKind.FETCH, StepKind.PREPARE, StepKind.DIARIZE):
            _report_late_audio(runtime, claim)
        log.warning("%s: its result is dropped", lost)
        return False
    except DatabaseUnavailable as away:
        log.warning("%s: step %d is left to the reaper", away, claim.step_id)
    else:
        log.info("step %d (%s): %s", claim.step_id, claim.kind, error)
    return True


def _report_late_audio(runtime: Runtime, claim: steps.Claim) -> None:
    try:
        report_late_audio(runtime.database, claim.job_id)
    except DatabaseUnavailable as error:
        log.warning("%s: what was written for job %s late may stay", error, claim.job_id)
