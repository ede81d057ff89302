"""The job store's writing side: the sole writer of job and step state.

Every function is one transaction and one named transition. Times are the database's. Rows are
locked in one order, job before step, so that transitions of one job queue up, never deadlock.

A worker's writes are fenced: they name the step and the epoch of the claim they belong to, and
change nothing (``LeaseLost``) once the step was claimed again, its lease was reaped or its job
ended.

All functions raise ``DatabaseUnavailable`` when Postgres cannot be reached; nothing was written
then, except that after its subclass ``CommitUncertain`` only Postgres knows. Every transition is
safe to find already made.
"""

from shared.steps.claims import Claim, claim, fail, reap, release, renew, retry
from shared.steps.completion import (
    complete_detect,
    complete_finish,
    complete_prepare,
    complete_transcribe,
)
from shared.steps.jobs import NewJob, cancel_job, create_job
from shared.steps.measuring import measure_pending, set_reference
from shared.steps.plan import (
    FINISH_QUEUE,
    PREPARE_QUEUE,
    NewChunk,
    add_chunks,
    add_detect,
    model_queue,
    release_chunks,
)

__all__ = [
    "FINISH_QUEUE",
    "PREPARE_QUEUE",
    "Claim",
    "NewChunk",
    "NewJob",
    "add_chunks",
    "add_detect",
    "cancel_job",
    "claim",
    "complete_detect",
    "complete_finish",
    "complete_prepare",
    "complete_transcribe",
    "create_job",
    "fail",
    "measure_pending",
    "model_queue",
    "reap",
    "release",
    "release_chunks",
    "renew",
    "retry",
    "set_reference",
]
