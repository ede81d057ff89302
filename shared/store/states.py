"""What each state means: who enters it, who leaves it, what a crash does.

Job: ``queued -> running -> succeeded | failed | canceled``.
Step: ``queued -> running -> done | failed``, and ``running -> queued`` on reap, retry or release.
"""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is. A terminal state is left only when its owner retries a job.

    From any state a job may be deleted: its row is gone then, and workers find their leases void.
    """

    QUEUED = "queued"
    """Committed, nothing started. Entered by ``create_job``, and from failed or canceled by
    ``retry_job``; left by the first claim. A crash leaves it here and the sweeper rings for it
    again. A job whose original is being transcribed has no steps and waits here for the original's
    end."""
    RUNNING = "running"
    """At least one step was claimed. Left by ``finish`` or by the first step that fails for good;
    a crash of a worker does not change it."""
    SUCCEEDED = "succeeded"
    """Terminal: the transcript is stored, in the same transaction by ``finish``. Entered by
    ``create_job`` and ``retry_job`` where the same was transcribed before. The transcript may have
    been removed since: ``transcript_deleted_at`` says so."""
    FAILED = "failed"
    """Terminal: the error says why. Entered when a step fails for good, or has waited for a worker
    for as long as it may; left by ``retry_job``, for
    which audio and finished chunks stay: the audio until its time is up, the chunks as long as the
    job does."""
    CANCELED = "canceled"
    """Terminal: its owner stopped it. Entered by ``cancel_job``; workers find their leases void.
    Left by ``retry_job``, for which audio and finished chunks stay as those of a failed job do."""


ACTIVE_JOB_STATES = (JobState.QUEUED, JobState.RUNNING)

RETRYABLE_JOB_STATES = (JobState.FAILED, JobState.CANCELED)


class StepState(StrEnum):
    """Where a step is. Steps left over when a job ends stay as they are: no claim takes them."""

    QUEUED = "queued"
    """Waits for a worker. Entered on creation, from running by reap, retry and release, and from
    any state but done when its job is retried; left by a claim. A crash changes nothing: its
    message is sent again."""
    RUNNING = "running"
    """A worker holds its lease. Entered by a claim; when the worker dies the lease expires and the
    sweeper puts the step back to queued."""
    DONE = "done"
    """Its output is stored. Entered by the completion of the worker whose epoch is current; never
    left, also when the job is retried."""
    FAILED = "failed"
    """A permanent error, or attempts exhausted; its job failed in the same transaction."""


class StepKind(StrEnum):
    """The kinds of step, each a Celery task of the same name."""

    PREPARE = "prepare"
    DETECT = "detect"
    TRANSCRIBE = "transcribe"
    FINISH = "finish"
    DELIVER = "deliver"
    """One webhook delivery. The only kind that is claimed after its job has ended."""


STEP_MAY_RUN = f"(jobs.state IN ('queued', 'running') OR steps.kind = '{StepKind.DELIVER}')"
"""Of a step and its job, in SQL: whether the step may be claimed and go on. Its job is active, or
it tells of the job's end."""


class DeliveryState(StrEnum):
    """Where a webhook delivery is."""

    PENDING = "pending"
    """Entered with the job's end, or by a replay; its ``deliver`` step makes the attempts. A crash
    costs one of them."""
    DELIVERED = "delivered"
    """Terminal: the receiver answered 2xx."""
    FAILED = "failed"
    """The attempts are exhausted, or the endpoint was disabled. Left by a replay alone."""
