"""Equal jobs: one is transcribed, and the others share its transcript."""

from uuid import UUID

from sqlalchemy import Connection

from shared.infra.database import text
from shared.infra.errors import JobNotFound
from shared.store.expired_uploads import release_uploads
from shared.store.jobs.end import end_jobs
from shared.store.objects.keys import job_prefix
from shared.store.objects.removals import schedule_removal
from shared.store.states import JobState
from shared.store.successors import insert_prepare


def find_original(connection: Connection, tenant: str, fingerprint: str | None) -> UUID | None:
    """Lock and return the equal job whose transcript a new job will get, if there is one."""
    if fingerprint is None:
        return None
    lock_equal_jobs(connection, tenant, fingerprint)
    return connection.execute(
        text("""
            SELECT id FROM jobs
            WHERE tenant = :tenant AND fingerprint = :fingerprint AND original_id IS NULL
              AND state IN ('queued', 'running', 'succeeded')
              AND (state <> 'succeeded' OR transcript_id IS NOT NULL)
            ORDER BY state = 'succeeded' DESC, id DESC LIMIT 1
            FOR NO KEY UPDATE
        """),
        {"tenant": tenant, "fingerprint": fingerprint},
    ).scalar_one_or_none()


def lock_equal_jobs(connection: Connection, tenant: str, fingerprint: str) -> None:
    """Lock the choice of an original among these jobs, before any row is locked.

    The second of two equal jobs waits here until it can see the first; a job created while an
    original is canceled waits until it can see the copy in its place.
    """
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:tenant || :fingerprint, 0))"),
        {"tenant": tenant, "fingerprint": fingerprint},
    )


def try_to_lock_equal_jobs(connection: Connection, tenant: str, fingerprint: str) -> bool:
    """Do as ``lock_equal_jobs``, or return False if that would wait."""
    locked = connection.execute(
        text("SELECT pg_try_advisory_xact_lock(hashtextextended(:tenant || :fingerprint, 0))"),
        {"tenant": tenant, "fingerprint": fingerprint},
    )
    return bool(locked.scalar_one())


def lock_with_equals(connection: Connection, tenant: str, job_id: UUID) -> JobState:
    """Lock a job's equals and then its row; return its state.

    Raises:
        JobNotFound: there is no such job for this tenant.
    """
    job = connection.execute(
        text("SELECT fingerprint FROM jobs WHERE id = :id AND tenant = :tenant"),
        {"id": job_id, "tenant": tenant},
    ).one_or_none()
    if job is not None and job.fingerprint is not None:
        lock_equal_jobs(connection, tenant, job.fingerprint)
    state = connection.execute(
        text("SELECT state FROM jobs WHERE id = :id AND tenant = :tenant FOR UPDATE"),
        {"id": job_id, "tenant": tenant},
    ).scalar_one_or_none()
    if state is None:
        raise JobNotFound(f"there is no job {job_id}")
    return JobState(state)


def raise_priority(connection: Connection, original: UUID, priority: int) -> None:
    """Give a job under way this priority, if its own is lower: another waits for it now.

    The caller has locked the job's row.
    """
    connection.execute(
        text("""
            WITH raised AS (
                UPDATE jobs SET priority = :priority
                WHERE id = :original AND state IN ('queued', 'running') AND priority < :priority
                RETURNING id
            )
            UPDATE steps SET rank = least(rank, -:priority) FROM raised
            WHERE steps.job_id = raised.id AND steps.kind <> 'deliver' AND steps.state = 'queued'
        """),
        {"original": original, "priority": priority},
    )


def share_transcript(connection: Connection, original: UUID) -> list[UUID]:
    """Jobs that wait for ``original`` queued -> succeeded with its transcript, if it has succeeded.

    Copies share the original's transcript, so their uploads are deleted. The caller has locked the
    original's row. Returns the jobs that succeeded.
    """
    shared = connection.execute(
        text("""
            UPDATE jobs
            SET state = 'succeeded', cached = true, finished_at = clock_timestamp(),
                transcript_id = original.transcript_id, duration_s = original.duration_s,
                detected_language = original.detected_language,
                detected_probability = original.detected_probability,
                chunks_total = original.chunks_total, chunks_done = original.chunks_done,
                audio_planned_s = original.audio_planned_s, audio_done_s = original.audio_done_s,
                plan_complete = true, peaks = original.peaks,
                manifest = original.manifest, audio_deleted_at = clock_timestamp()
            FROM jobs AS original
            WHERE original.id = :original AND original.state = 'succeeded'
              AND jobs.original_id = original.id AND jobs.state = 'queued'
            RETURNING jobs.id
        """),
        {"original": original},
    ).scalars()
    job_ids = list(shared)
    for job_id in job_ids:
        schedule_removal(connection, job_prefix(job_id), late_writes=False)
    if job_ids:
        release_uploads(connection, job_ids, at_once=False)
        end_jobs(connection, job_ids, f"equal to job {original}")
    return job_ids


def promote_a_copy(connection: Connection, original: UUID, max_attempts: int) -> None:
    """Give the oldest job that waits for ``original`` a ``prepare`` step; the rest wait for it."""
    promoted = connection.execute(
        text("""
            SELECT id, source_bytes FROM jobs WHERE original_id = :original AND state = 'queued'
            ORDER BY id LIMIT 1 FOR NO KEY UPDATE
        """),
        {"original": original},
    ).one_or_none()
    if promoted is None:
        return
    connection.execute(
        text("""
            UPDATE jobs SET original_id = CASE WHEN id <> :promoted THEN CAST(:promoted AS uuid) END
            WHERE original_id = :original AND state = 'queued'
        """),
        {"promoted": promoted.id, "original": original},
    )
    insert_prepare(connection, promoted.id, promoted.source_bytes, max_attempts)
