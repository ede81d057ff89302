"""States of jobs, steps, uploads and deliveries: who enters and leaves each, what a crash does.

Job: ``queued -> running -> succeeded | failed | canceled``.
Step: ``queued -> running -> done | failed``; ``running -> queued`` on reap, retry and release;
``queued | running -> void`` when the job ends without it.
Upload: ``open -> verifying -> complete | failed``.
"""

from enum import StrEnum


class JobState(StrEnum):
    """The state of a job. A terminal state is left only by a retry of the job's owner.

    A job may be deleted in any state. Workers find their leases void then.
    """

    QUEUED = "queued"
    """Committed, not started. Entered by ``create_job``, and from failed or canceled by
    ``retry_job``; left soon after the first claim. A crash changes nothing. A job whose original is
    being transcribed has no steps and waits here for the original's end."""
    RUNNING = "running"
    """A step was claimed. Left by the job's last step, or by the first one that fails for good. A
    worker's crash changes nothing."""
    SUCCEEDED = "succeeded"
    """Terminal: the transcript is stored in the same transaction. Entered by ``create_job`` and
    ``retry_job`` if an equal job was transcribed before. ``transcript_deleted_at`` says when the
    transcript was removed."""
    FAILED = "failed"
    """Terminal, with an error. Entered when a step fails for good or has waited too long for a
    worker. Left by ``retry_job``, for which the audio is kept until its retention ends, and
    finished chunks as long as the job."""
    CANCELED = "canceled"
    """Terminal: stopped by its owner. Entered by ``cancel_job``. Left by ``retry_job``, for which
    audio and finished chunks are kept as for a failed job."""


ACTIVE_JOB_STATES = (JobState.QUEUED, JobState.RUNNING)

RETRYABLE_JOB_STATES = (JobState.FAILED, JobState.CANCELED)


class StepState(StrEnum):
    """The state of a step. After its job's end only ``deliver`` and ``listen`` steps are queued or
    running."""

    QUEUED = "queued"
    """Waits for a worker. Entered on creation, from running by reap, retry and release, and from
    any state but done when its job is retried. Left by a claim. A crash changes nothing."""
    RUNNING = "running"
    """A worker holds its lease. Entered by a claim. When the worker dies, the lease expires and the
    sweep requeues the step."""
    DONE = "done"
    """Its output is stored. Entered by the completion of the worker with the current epoch. Never
    left, not even when the job is retried."""
    FAILED = "failed"
    """A permanent error, or attempts exhausted. Its job failed in the same transaction, unless it
    had ended before or goes on without the step (``diarize``)."""
    VOID = "void"
    """Its job ended without it. Entered from queued and running in the transaction that ends the
    job; a worker that held it finds its lease lost. Left only when the job is retried."""


class StepKind(StrEnum):
    """The kinds of step."""

    FETCH = "fetch"
    """Of a job whose file is at a URL."""
    PREPARE = "prepare"
    DETECT = "detect"
    TRANSCRIBE = "transcribe"
    DIARIZE = "diarize"
    """The speakers of a span, where they are to be told apart. Its failure costs their names
    alone."""
    FINISH = "finish"
    DELIVER = "deliver"
    """One webhook delivery; runs after its job has ended."""
    LISTEN = "listen"
    """The listening copy of a job that has succeeded; runs after that, and never changes it."""


class UploadState(StrEnum):
    """The state of an upload. An upload in any state is removed when its time is over."""

    OPEN = "open"
    """Lacks bytes. Entered on creation. Left when the object store has the whole file. A crash of
    the API costs what was not confirmed; where the object store has lost the parts, the upload
    begins anew."""
    VERIFYING = "verifying"
    """The object store has the whole file, whose SHA-256 is being computed. Any request for the
    upload has an API process compute it again if the one that did so has died."""
    COMPLETE = "complete"
    """Its size and SHA-256 are known: jobs can be made of it."""
    FAILED = "failed"
    """Its SHA-256 is not the one that was declared. The file is removed."""


class DeliveryState(StrEnum):
    """The state of a webhook delivery."""

    PENDING = "pending"
    """Entered with the job's end or by a replay; its ``deliver`` step makes the attempts. A crash
    costs one of them."""
    DELIVERED = "delivered"
    """Terminal: the receiver answered 2xx."""
    FAILED = "failed"
    """The attempts are exhausted, or the endpoint was disabled. Left only by a replay."""
