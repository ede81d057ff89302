"""The audio of jobs that is kept: their files, and listening copies of those."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine

from shared.infra.database import fetch, read
from shared.infra.errors import AudioDeleted, AudioNotFetched, JobNotFound, PeaksNotReady
from shared.store.objects.keys import listening_key


@dataclass(frozen=True, slots=True)
class KeptAudio:
    """A job's file in the object store as it was received, or its listening copy."""

    key: str
    n_bytes: int
    version: str
    """Another one for other bytes."""
    name: str
    """Of the job's own file; the copy's has another extension."""


def find_audio(engine: Engine, tenant: str, job_id: UUID) -> KeptAudio:
    """Return a job's file or, once that is gone, its listening copy.

    A job that has an equal one's transcript has that one's audio: the same bytes.

    Raises:
        JobNotFound: there is no such job for this tenant.
        AudioNotFetched: its file is at a URL still.
        AudioDeleted: nothing of it is kept any more.
    """
    with read(engine, tenant) as connection:
        rows = fetch(connection, _FIND, {"id": job_id, "tenant": tenant})
    if not rows:
        raise JobNotFound(f"there is no job {job_id}")
    (row,) = rows
    if row["source_key"] is not None:
        if row["source_bytes"] is None:
            detail = f"the job is {row['state']}, and the file at its audio_url is not fetched"
            raise AudioNotFetched(detail, row["state"])
        return KeptAudio(row["source_key"], row["source_bytes"], row["sha256"], row["name"])
    if row["copied_id"] is not None:
        name = f"{row['name'].rpartition('.')[0] or row['name']}.ogg"
        key = listening_key(row["copied_id"])
        return KeptAudio(key, row["listening_bytes"], f"{row['sha256']}-listening", name)
    raise AudioDeleted("the audio was removed: its time was up")


_FIND = """
    SELECT CASE WHEN jobs.audio_deleted_at IS NULL THEN jobs.source_key
                WHEN original.audio_deleted_at IS NULL THEN original.source_key END AS source_key,
           CASE WHEN jobs.listening_bytes IS NOT NULL THEN jobs.id
                WHEN original.listening_bytes IS NOT NULL THEN original.id END AS copied_id,
           coalesce(jobs.listening_bytes, original.listening_bytes) AS listening_bytes,
           jobs.state, jobs.source_bytes, jobs.sha256, jobs.source_name AS name
    FROM jobs LEFT JOIN jobs AS original ON original.id = jobs.original_id
    WHERE jobs.id = %(id)s AND jobs.tenant = %(tenant)s
"""


def find_peaks(engine: Engine, tenant: str, job_id: UUID) -> tuple[float, bytes]:
    """Return the seconds of a job's audio and its peaks, 255 for full scale, in equal parts.

    Raises:
        JobNotFound: there is no such job for this tenant.
        PeaksNotReady: it is not prepared yet.
    """
    with read(engine, tenant) as connection:
        rows = fetch(connection, _FIND_PEAKS, {"id": job_id, "tenant": tenant})
    if not rows:
        raise JobNotFound(f"there is no job {job_id}")
    (row,) = rows
    if row["peaks"] is None:
        raise PeaksNotReady(f"the job is {row['state']}, and its audio is not prepared")
    return row["duration_s"], bytes(row["peaks"])


_FIND_PEAKS = """
    SELECT state, duration_s, peaks FROM jobs WHERE id = %(id)s AND tenant = %(tenant)s
"""
