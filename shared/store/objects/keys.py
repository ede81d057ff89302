"""Where the objects of jobs and uploads lie in the object store."""

from uuid import UUID

JOBS, LISTENING, UPLOADS = "jobs/", "listening/", "uploads/"
"""What the keys of the objects of jobs, of their listening copies and of uploads begin with."""


def job_prefix(job_id: UUID) -> str:
    """Return what the keys of all of a job's objects begin with.

    The first eight digits of a UUIDv7 change every 66 seconds, so a folder has the jobs of about a
    minute. A file server of S3 lists a folder again and again while objects are added to it, which
    with all jobs in one folder would cost more with each job.
    """
    return f"{JOBS}{str(job_id)[:8]}/{job_id}/"


def source_key(job_id: UUID) -> str:
    """Return the key of the file as it was received."""
    return f"{job_prefix(job_id)}source"


def pcm_prefix(job_id: UUID) -> str:
    """Return what the keys of a job's decoded audio begin with."""
    return f"{job_prefix(job_id)}pcm/"


def activities_key(job_id: UUID, span: int) -> str:
    """Return the key of what was heard of the speakers in a span; it goes with the audio."""
    return f"{pcm_prefix(job_id)}speakers/{span:05d}"


def listening_key(job_id: UUID) -> str:
    """Return the key of a job's listening copy, which outlives its other objects."""
    return f"{LISTENING}{str(job_id)[:8]}/{job_id}.ogg"


def fetched_key(job_id: UUID, epoch: int) -> str:
    """Return the key of a file that was fetched by the claim of this epoch.

    A worker that has lost its claim cannot replace what another one has stored.
    """
    return f"{source_key(job_id)}.{epoch}"


def upload_prefix(upload_id: UUID) -> str:
    """Return what the keys of all of an upload's objects begin with; see ``job_prefix``."""
    return f"{UPLOADS}{str(upload_id)[:8]}/{upload_id}/"


def upload_key(upload_id: UUID) -> str:
    """Return the key of an upload's file, once it is whole."""
    return f"{upload_prefix(upload_id)}source"


def tail_key(upload_id: UUID, stop: int) -> str:
    """Return the key of the bytes after an upload's last full part, up to the offset ``stop``."""
    return f"{upload_prefix(upload_id)}tail/{stop}"


def upload_of(key: str) -> UUID | None:
    """Return the upload whose object has this key; None: it is none's."""
    try:
        return UUID(key.removeprefix(UPLOADS).split("/")[1])
    except (IndexError, ValueError):
        return None


def owner_of(key: str) -> UUID | None:
    """Return the job or the upload whose object has this key; None: it is nobody's."""
    try:
        return UUID(key.split("/")[2].removesuffix(".ogg"))
    except (IndexError, ValueError):
        return None
