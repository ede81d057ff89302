"""Where a job's objects lie in the object store."""

from uuid import UUID


def job_prefix(job_id: UUID) -> str:
    """Return what the keys of all of a job's objects begin with.

    The first eight digits of a UUIDv7 change every 66 seconds, so a folder has the jobs of about a
    minute. A file server of S3 lists a folder again and again while objects are added to it, which
    with all jobs in one folder would cost more with each job.
    """
    return f"jobs/{str(job_id)[:8]}/{job_id}/"


def source_key(job_id: UUID) -> str:
    """Return the key of the file as it was received."""
    return f"{job_prefix(job_id)}source"


def pcm_prefix(job_id: UUID) -> str:
    """Return what the keys of a job's decoded audio begin with."""
    return f"{job_prefix(job_id)}pcm/"


def listening_key(job_id: UUID) -> str:
    """Return the key of a job's listening copy, which outlives its other objects."""
    return f"listening/{str(job_id)[:8]}/{job_id}.ogg"
