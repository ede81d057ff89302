"""Retention: audio, transcripts, jobs and webhooks' test events go when their time is up.

Each call changes one bounded batch. It leaves rows that are locked to the next call.
"""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.infra.errors import AUDIO_CODES
from shared.store.events import record
from shared.store.expired_uploads import release_uploads
from shared.store.jobs.delete import drop_transcript, erase_job
from shared.store.jobs.equal import try_to_lock_equal_jobs
from shared.store.objects.keys import job_prefix, listening_key
from shared.store.objects.removals import schedule_removal
from shared.store.states import JobState
from shared.store.webhooks.endpoints import drop_unlisted

FOR_EVER_S = 3e9
"""A century. Postgres has no much longer intervals; ``inf`` counts as longer too."""

KEEP_REFUSED_S = 3_600.0
"""The longest that audio is kept which is itself why its job failed. A retry fails as well, so the
time is for an operator who wants to look at it."""

KEEP_TESTS_S = 30 * 86_400.0
"""The longest that webhooks' test events are kept."""


def expire_audio(engine: Engine, state: JobState, *, keep_s: float, limit: int) -> int:
    """Jobs that have been in the terminal ``state`` for ``keep_s`` lose their audio."""
    return _expire_audio(engine, "state = :state", {"state": state}, keep_s=keep_s, limit=limit)


def expire_refused_audio(engine: Engine, *, keep_s: float, limit: int) -> int:
    """Jobs that failed because of their audio lose it after ``keep_s`` or ``KEEP_REFUSED_S``."""
    return _expire_audio(
        engine,
        "state = 'failed' AND error_code = ANY (:codes)",
        {"codes": sorted(AUDIO_CODES)},
        keep_s=min(keep_s, KEEP_REFUSED_S),
        limit=limit,
    )


def _expire_audio(
    engine: Engine, condition: str, parameters: Mapping[str, Any], *, keep_s: float, limit: int
) -> int:
    if keep_s >= FOR_EVER_S:
        return 0
    with begin(engine) as connection:
        expired = connection.execute(
            text(f"""
                WITH old AS (
                    SELECT id FROM jobs
                    WHERE {condition} AND audio_deleted_at IS NULL
                      AND finished_at <= now() - make_interval(secs => :keep_s)
                    ORDER BY finished_at LIMIT :limit
                    FOR NO KEY UPDATE SKIP LOCKED
                )
                UPDATE jobs SET audio_deleted_at = clock_timestamp()
                FROM old WHERE jobs.id = old.id
                RETURNING jobs.id
            """),  # noqa: S608 - the condition is a constant
            {**parameters, "keep_s": keep_s, "limit": limit},
        ).scalars()
        job_ids = list(expired)
        if not job_ids:
            return 0
        release_uploads(connection, job_ids, at_once=True)
        connection.execute(
            text("UPDATE steps SET audio = NULL WHERE job_id = ANY (:ids) AND audio IS NOT NULL"),
            {"ids": job_ids},
        )
        for job_id in job_ids:
            record(connection, job_id, "job.audio_removed")
            schedule_removal(connection, job_prefix(job_id), late_writes=True)
    return len(job_ids)


def expire_listening(engine: Engine, *, keep_s: float, limit: int) -> int:
    """Jobs that succeeded ``keep_s`` ago lose their listening copies."""
    if keep_s >= FOR_EVER_S:
        return 0
    with begin(engine) as connection:
        expired = connection.execute(
            text("""
                WITH old AS (
                    SELECT id FROM jobs
                    WHERE listening_bytes IS NOT NULL
                      AND finished_at <= now() - make_interval(secs => :keep_s)
                    ORDER BY finished_at LIMIT :limit
                    FOR NO KEY UPDATE SKIP LOCKED
                )
                UPDATE jobs SET listening_bytes = NULL FROM old WHERE jobs.id = old.id
                RETURNING jobs.id
            """),
            {"keep_s": keep_s, "limit": limit},
        ).scalars()
        job_ids = list(expired)
        for job_id in job_ids:
            schedule_removal(connection, listening_key(job_id), late_writes=False)
    return len(job_ids)


def expire_transcripts(engine: Engine, *, keep_s: float, limit: int) -> int:
    """Jobs that succeeded ``keep_s`` ago lose transcript, hypotheses and reference."""
    return _expire(
        engine,
        "state = 'succeeded' AND transcript_id IS NOT NULL",
        _remove_transcript,
        keep_s=keep_s,
        limit=limit,
    )


def expire_jobs(engine: Engine, *, keep_s: float, max_attempts: int, limit: int) -> int:
    """Jobs that ended ``keep_s`` ago are deleted, unless a webhook delivery is pending."""
    return _expire(
        engine,
        """
        state IN ('succeeded', 'failed', 'canceled') AND NOT EXISTS (
            SELECT FROM webhook_events AS event
            JOIN webhook_deliveries AS delivery ON delivery.event_id = event.id
            WHERE event.job_id = jobs.id AND delivery.state = 'pending'
        )
        """,
        lambda connection, job_id: erase_job(connection, job_id, max_attempts),
        keep_s=keep_s,
        limit=limit,
    )


def expire_test_events(engine: Engine, *, keep_s: float, limit: int) -> int:
    """Test events of webhooks go after ``keep_s`` or ``KEEP_TESTS_S``, with their deliveries."""
    with begin(engine) as connection:
        # The deliveries are locked too, as ``delete_endpoint`` locks them in another order.
        expired = connection.execute(
            text("""
                WITH old AS (
                    SELECT webhook_events.id
                    FROM webhook_events JOIN webhook_deliveries ON event_id = webhook_events.id
                    WHERE job_id IS NULL
                      AND webhook_events.created_at <= now() - make_interval(secs => :keep_s)
                    ORDER BY webhook_events.created_at LIMIT :limit
                    FOR UPDATE SKIP LOCKED
                )
                DELETE FROM webhook_events USING old WHERE webhook_events.id = old.id
                RETURNING webhook_events.id
            """),
            {"keep_s": min(keep_s, KEEP_TESTS_S), "limit": limit},
        )
        return len(expired.all())


def expire_batches(engine: Engine, *, limit: int) -> int:
    """Batches of which no job is left are deleted, with the endpoints that they alone named."""
    with begin(engine) as connection:
        deleted = connection.execute(
            text("""
                WITH empty AS (
                    SELECT id FROM batches
                    WHERE completed_at IS NOT NULL
                      AND NOT EXISTS (SELECT FROM jobs WHERE batch_id = batches.id)
                    ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
                )
                DELETE FROM batches USING empty WHERE batches.id = empty.id
                RETURNING webhook_endpoint_id
            """),
            {"limit": limit},
        ).scalars()
        endpoints = deleted.all()
        for endpoint_id in sorted({each for each in endpoints if each is not None}):
            drop_unlisted(connection, endpoint_id)
    return len(endpoints)


def _expire(
    engine: Engine,
    condition: str,
    change: Callable[[Connection, UUID], None],
    *,
    keep_s: float,
    limit: int,
) -> int:
    """Make the change to the oldest jobs that meet the condition, each in its own transaction."""
    if keep_s >= FOR_EVER_S:
        return 0
    due = f"{condition} AND finished_at <= now() - make_interval(secs => :keep_s)"
    with begin(engine) as connection:
        found = connection.execute(
            text(f"SELECT id FROM jobs WHERE {due} ORDER BY finished_at LIMIT :limit"),  # noqa: S608
            {"keep_s": keep_s, "limit": limit},
        ).scalars()
        job_ids = list(found)
    changed = 0
    for job_id in job_ids:
        with begin(engine) as connection:
            if _lock(connection, job_id, due, keep_s):
                change(connection, job_id)
                changed += 1
    return changed


def _lock(connection: Connection, job_id: UUID, due: str, keep_s: float) -> bool:
    """Lock a job and its equals, if no one else holds them and the job is still due."""
    job = connection.execute(
        text("SELECT tenant, fingerprint FROM jobs WHERE id = :id"), {"id": job_id}
    ).one_or_none()
    if job is None:
        return False
    if job.fingerprint is not None and not try_to_lock_equal_jobs(
        connection, job.tenant, job.fingerprint
    ):
        return False
    locked = connection.execute(
        text(f"SELECT id FROM jobs WHERE id = :id AND {due} FOR UPDATE SKIP LOCKED"),  # noqa: S608
        {"id": job_id, "keep_s": keep_s},
    )
    return locked.one_or_none() is not None


def _remove_transcript(connection: Connection, job_id: UUID) -> None:
    """Delete all of a job that holds spoken words; its copies keep theirs."""
    before = connection.execute(
        text("""
            UPDATE jobs SET transcript_id = NULL, reference = NULL,
                            live_text = NULL, listening_bytes = NULL, speakers = NULL,
                            transcript_deleted_at = clock_timestamp()
            FROM (SELECT id, transcript_id, listening_bytes FROM jobs WHERE id = :id) AS before
            WHERE jobs.id = before.id
            RETURNING before.transcript_id, before.listening_bytes
        """),
        {"id": job_id},
    ).one()
    connection.execute(text("DELETE FROM corrections WHERE job_id = :id"), {"id": job_id})
    if before.listening_bytes is not None:
        schedule_removal(connection, listening_key(job_id), late_writes=False)
    connection.execute(
        text("UPDATE steps SET output = NULL WHERE job_id = :id AND output IS NOT NULL"),
        {"id": job_id},
    )
    # A copy becomes an original, whose transcript a later equal job can still get.
    connection.execute(
        text("UPDATE jobs SET original_id = NULL WHERE original_id = :id"), {"id": job_id}
    )
    drop_transcript(connection, before.transcript_id)
    record(connection, job_id, "job.transcript_removed")
