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


def fetched_key(job_id: UUID, epoch: int) -> str:
    """Return the key of a file that was fetched by the claim of this epoch.

    A worker that has lost its claim cannot replace what another one has stored.
    """
    return f"{source_key(job_id)}.{epoch}"
