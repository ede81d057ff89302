"""Where a job's objects lie in the object store."""

from uuid import UUID


def job_prefix(job_id: UUID) -> str:
    """Return what the keys of all of a job's objects begin with."""
    return f"jobs/{job_id}/"


def source_key(job_id: UUID) -> str:
    """Return the key of the file as it was received."""
    return f"{job_prefix(job_id)}source"


def pcm_prefix(job_id: UUID) -> str:
    """Return what the keys of a job's decoded audio begin with."""
    return f"{job_prefix(job_id)}pcm/"
