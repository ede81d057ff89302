"""What each state means: who enters it, who leaves it, what a crash does.

Job: ``queued -> running -> succeeded | failed | canceled``.
Step: ``queued -> running -> done | failed``; ``running -> queued`` on reap, retry and release;
``queued | running -> void`` when the job ends without it.
"""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is. A terminal state is left only when its owner retries the job.

    A job may be deleted in any state. Its row is gone then, and workers find their leases void.
    """

    QUEUED = "queued"
    """Committed, nothing started. Entered by ``create_job``, and from failed or canceled by
    ``retry_job``; left soon after the first claim. A crash leaves it here. A job whose original is
    being transcribed has no steps and waits here for the original's end."""
    RUNNING = "running"
    """At least one step was claimed. Left by its last step, or by the first step that fails for
    good. A crash of a worker does not change it."""
    SUCCEEDED = "succeeded"
    """Terminal: the transcript is stored in the same transaction. Entered by ``create_job`` and
    ``retry_job`` where the same was transcribed before. ``transcript_deleted_at`` says whether the
    transcript has been removed since."""
    FAILED = "failed"
    """Terminal: the error says why. Entered when a step fails for good, or has waited for a worker
    for as long as it may. Left by ``retry_job``, for which the audio is kept until its time is up,
    and finished chunks as long as the job."""
    CANCELED = "canceled"
    """Terminal: its owner stopped it. Entered by ``cancel_job``. Left by ``retry_job``, for which
    audio and finished chunks are kept as those of a failed job."""


ACTIVE_JOB_STATES = (JobState.QUEUED, JobState.RUNNING)

RETRYABLE_JOB_STATES = (JobState.FAILED, JobState.CANCELED)


class StepState(StrEnum):
    """Where a step is. Only the steps of an active job, and ``deliver`` steps, are live."""

    QUEUED = "queued"
    """Waits for a worker. Entered on creation, from running by reap, retry and release, and from
    any state but done when its job is retried. Left by a claim. A crash changes nothing."""
    RUNNING = "running"
    """A worker holds its lease. Entered by a claim. When the worker dies the lease expires, and
    the sweep puts the step back to queued."""
    DONE = "done"
    """Its output is stored. Entered by the completion of the worker whose epoch is current. Never
    left, not even when the job is retried."""
    FAILED = "failed"
    """A permanent error, or attempts exhausted. Its job failed in the same transaction."""
    VOID = "void"
    """Its job ended without it. Entered from queued and running in the transaction that ends the
    job; a worker that held it finds its lease lost. Left only when the job is retried."""


class StepKind(StrEnum):
    """The kinds of step."""

    PREPARE = "prepare"
    DETECT = "detect"
    TRANSCRIBE = "transcribe"
    FINISH = "finish"
    DELIVER = "deliver"
    """One webhook delivery. The only kind that runs after its job has ended."""


class DeliveryState(StrEnum):
    """Where a webhook delivery is."""

    PENDING = "pending"
    """Entered with the job's end, or by a replay; its ``deliver`` step makes the attempts. A crash
    costs one of them."""
    DELIVERED = "delivered"
    """Terminal: the receiver answered 2xx."""
    FAILED = "failed"
    """The attempts are exhausted, or the endpoint was disabled. Left by a replay alone."""
