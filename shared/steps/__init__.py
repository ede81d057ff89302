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

from shared.steps.claims import Claim, claim, renew
from shared.steps.completion import (
    complete_detect,
    complete_finish,
    complete_prepare,
    complete_transcribe,
)
from shared.steps.deleting import delete_job
from shared.steps.delivering import complete_attempt, replay
from shared.steps.ending import DELIVER_QUEUE
from shared.steps.jobs import JobWebhook, NewJob, cancel_job, create_job
from shared.steps.measuring import measure_pending, set_reference
from shared.steps.plan import (
    FINISH_QUEUE,
    LARGE_BYTES,
    PREPARE_LARGE_QUEUE,
    PREPARE_QUEUE,
    NewChunk,
    add_chunks,
    add_detect,
    model_queue,
    queue_model,
    release_chunks,
)
from shared.steps.removals import abandon_upload, begin_upload, report_late_audio
from shared.steps.retention import (
    expire_audio,
    expire_jobs,
    expire_test_events,
    expire_transcripts,
)
from shared.steps.retrying import retry_job
from shared.steps.unfinished import fail, reap, release, retry
from shared.steps.unserved import fail_unserved

__all__ = [
    "DELIVER_QUEUE",
    "FINISH_QUEUE",
    "LARGE_BYTES",
    "PREPARE_LARGE_QUEUE",
    "PREPARE_QUEUE",
    "Claim",
    "JobWebhook",
    "NewChunk",
    "NewJob",
    "abandon_upload",
    "add_chunks",
    "add_detect",
    "begin_upload",
    "cancel_job",
    "claim",
    "complete_attempt",
    "complete_detect",
    "complete_finish",
    "complete_prepare",
    "complete_transcribe",
    "create_job",
    "delete_job",
    "expire_audio",
    "expire_jobs",
    "expire_test_events",
    "expire_transcripts",
    "fail",
    "fail_unserved",
    "measure_pending",
    "model_queue",
    "queue_model",
    "reap",
    "release",
    "release_chunks",
    "renew",
    "replay",
    "report_late_audio",
    "retry",
    "retry_job",
    "set_reference",
]
