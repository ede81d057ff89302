"""The objects that rows need, and rows whose objects are lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from shared.infra.errors import AudioGone
from shared.store.events import record
from shared.store.jobs.end import fail_job
from shared.store.objects.keys import JOBS, LISTENING, UPLOADS, owner_of

PREFIXES = (JOBS, LISTENING, UPLOADS)
"""What the keys of all objects begin with that a backup holds."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Jobs whose objects are in no backup."""

    audio: int
    """Jobs that have ended, and lost their audio as by retention."""
    unfinished: int
    """Jobs that failed, as they cannot be prepared without their audio."""


def note_restored(connection: Connection, keys: Sequence[str]) -> None:
    """Remember, until the transaction ends, that objects are restored; ``lose_others`` uses it."""
    connection.execute(
        text("""
            CREATE TEMPORARY TABLE IF NOT EXISTS restored_objects (key text PRIMARY KEY)
            ON COMMIT DROP
        """)
    )
    connection.execute(
        text("INSERT INTO restored_objects SELECT unnest(CAST(:keys AS text[]))"),
        {"keys": list(keys)},
    )


def needed(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Return those objects that the rows need; the others are left to no row, or to a removal."""
    owners = [owner_of(key) for key in keys]
    return set(
        connection.execute(
            text("""
                SELECT object.key
                FROM unnest(CAST(:keys AS text[]), CAST(:owners AS uuid[])) AS object (key, owner)
                WHERE EXISTS (
                    SELECT FROM jobs
                    WHERE jobs.id = object.owner AND starts_with(object.key, :jobs)
                      AND audio_deleted_at IS NULL
                      AND (state <> 'succeeded' OR source_key = object.key)
                ) OR EXISTS (
                    SELECT FROM jobs
                    WHERE jobs.id = object.owner AND starts_with(object.key, :listening)
                      AND listening_bytes IS NOT NULL
                ) OR EXISTS (
                    SELECT FROM uploads
                    WHERE uploads.id = object.owner AND starts_with(object.key, :uploads)
                )
            """),
            {
                "keys": list(keys),
                "owners": owners,
                "jobs": JOBS,
                "listening": LISTENING,
                "uploads": UPLOADS,
            },
        ).scalars()
    )


def lose_others(connection: Connection) -> Lost:
    """Change the rows whose objects are not restored, as if retention had removed those.

    A job that is not prepared yet fails. One whose chunks are stored goes on without its file.
    """
    note_restored(connection, [])
    connection.execute(
        text("""
            UPDATE jobs SET listening_bytes = NULL
            WHERE listening_bytes IS NOT NULL AND NOT EXISTS (
                SELECT FROM restored_objects
                WHERE key = :listening || left(jobs.id::text, 8) || '/' || jobs.id || '.ogg'
            )
        """),
        {"listening": LISTENING},
    )
    lost = connection.execute(
        text("""
            UPDATE jobs SET audio_deleted_at = clock_timestamp()
            WHERE audio_deleted_at IS NULL AND source_bytes IS NOT NULL
              AND NOT EXISTS (SELECT FROM restored_objects WHERE key = source_key)
            RETURNING id, state, plan_complete
        """)
    ).all()
    audio = unfinished = 0
    for job in lost:
        record(connection, job.id, "job.audio_removed")
        if job.state in ("queued", "running") and not job.plan_complete:
            fail_job(connection, job.id, AudioGone.code, "the audio of the job is in no backup")
            unfinished += 1
        else:
            audio += 1
    connection.execute(
        text("""
            DELETE FROM uploads WHERE NOT held AND NOT EXISTS (
                SELECT FROM restored_objects
                WHERE key = :uploads || left(uploads.id::text, 8) || '/' || uploads.id || '/source'
            )
        """),
        {"uploads": UPLOADS},
    )
    return Lost(audio, unfinished)
