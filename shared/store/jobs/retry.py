"""Jobs retried: a failed or canceled job goes on where it stopped."""

from collections import Counter
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, text

from shared.infra.database import begin
from shared.infra.errors import AudioGone, JobNotFound, JobNotRetryable
from shared.store.events import record
from shared.store.jobs.accuracy import measure_at_once
from shared.store.jobs.calls import forget_call
from shared.store.jobs.equal import find_original, lock_equal_jobs, share_transcript
from shared.store.limits import NO_LIMITS, Limits, check_room
from shared.store.states import RETRYABLE_JOB_STATES
from shared.store.successors import TURNS, insert_prepare
from shared.store.wakeups import ring_after_commit


def retry_job(
    engine: Engine, tenant: str, job_id: UUID, *, max_attempts: int, limits: Limits = NO_LIMITS
) -> None:
    """Job failed or canceled -> queued for its next run, and its steps that are not done -> queued.

    A job without steps, which ended while it waited for another, begins as in ``create_job``: with
    an equal job's transcript, waiting for one under way, or with a ``prepare`` step.

    Raises:
        JobNotFound: there is no such job for this tenant.
        JobNotRetryable: it is in another state.
        AudioGone: its audio was removed, and is still needed.
        TooManyJobs, TooMuchAudio: the tenant has as much as ``limits`` allow.
    """
    with begin(engine, tenant) as connection:
        check_room(connection, tenant, limits)
        job = connection.execute(
            text("""
                SELECT fingerprint, source_bytes FROM jobs WHERE id = :id AND tenant = :tenant
            """),
            {"id": job_id, "tenant": tenant},
        ).one_or_none()
        if job is None:
            raise JobNotFound(f"there is no job {job_id}")
        # Only under this lock does a job with a fingerprint get its first step, so ``has_steps``
        # cannot change. A job without a fingerprint always has steps.
        if job.fingerprint is not None:
            lock_equal_jobs(connection, tenant, job.fingerprint)
        has_steps = connection.execute(
            text("""
                SELECT EXISTS (
                    SELECT FROM steps WHERE job_id = :id
                      AND (kind = 'prepare' OR kind = 'fetch' AND state <> 'done')
                )
            """),
            {"id": job_id},
        ).scalar_one()
        # An original's row is locked before its copy's.
        original = None if has_steps else find_original(connection, tenant, job.fingerprint)
        taken = _take_up(connection, job_id, original)
        forget_call(connection, job_id)  # it is wanted now, whoever had left
        shared = [] if original is None else share_transcript(connection, original)
        if taken.audio_deleted_at is not None and not taken.all_heard and job_id not in shared:
            raise AudioGone("the audio of the job was removed; send the file again")
        if has_steps:
            _queue_unfinished(connection, job_id)
        elif original is None:
            insert_prepare(connection, job_id, job.source_bytes, max_attempts)
        if shared:
            measure_at_once(connection, shared)


def _take_up(connection: Connection, job_id: UUID, original: UUID | None) -> Row[Any]:
    """Job failed or canceled -> queued; returns whether it has its audio, or needs none."""
    job = connection.execute(
        text("""
            SELECT state, audio_deleted_at,
                   plan_complete AND chunks_done = chunks_total AND NOT EXISTS (
                       SELECT FROM steps
                       WHERE job_id = :id AND kind = 'diarize' AND state NOT IN ('done', 'failed')
                   ) AS all_heard
            FROM jobs WHERE id = :id FOR NO KEY UPDATE
        """),
        {"id": job_id},
    ).one_or_none()
    if job is None:
        raise JobNotFound(f"there is no job {job_id}")
    if job.state not in RETRYABLE_JOB_STATES:
        raise JobNotRetryable(
            f"the job is {job.state}; only one that failed or was canceled can be retried"
        )
    # The plan, its finished chunks and the job's metrics stay.
    connection.execute(
        text("""
            UPDATE jobs SET state = 'queued', run = run + 1, original_id = :original,
                            error_code = NULL, error_detail = NULL, started_at = NULL,
                            transcribing_since = NULL, finished_at = NULL
            WHERE id = :id
        """),
        {"id": job_id, "original": original},
    )
    record(connection, job_id, "job.retried")
    return job


def _queue_unfinished(connection: Connection, job_id: UUID) -> None:
    """Steps void or failed -> queued, with new turns and all their attempts.

    The epoch is raised, so a worker that has not noticed the job's end has lost its claim. Chunks
    on hold stay on hold. Speakers that were given up are not looked for again once ``finish`` has
    its turn.
    """
    queued = connection.execute(
        text(f"""
            WITH undone AS (
                SELECT id, kind, queue, row_number() OVER (PARTITION BY kind ORDER BY idx) AS n
                FROM steps WHERE job_id = :id AND kind <> 'deliver' AND state <> 'done'
                  AND NOT (kind = 'diarize' AND state = 'failed' AND EXISTS (
                      SELECT FROM steps WHERE job_id = :id AND kind = 'finish'
                  ))
            ), turn AS (
                SELECT kinds.kind, kinds.queue, turn.*
                FROM jobs CROSS JOIN (SELECT DISTINCT kind, queue FROM undone) AS kinds
                CROSS JOIN LATERAL ({TURNS.format(kind="kinds.kind", queue="kinds.queue")}) AS turn
                WHERE jobs.id = :id
            )
            UPDATE steps
            SET state = 'queued', attempt = 0, outages = 0, epoch = epoch + 1,
                rank = -(SELECT priority FROM jobs WHERE id = :id),
                job_turn = turn.of_job + undone.n - 1, tenant_turn = turn.of_tenant + undone.n - 1,
                lease_owner = NULL, lease_until = NULL, claimed_at = NULL,
                finished_at = NULL, error_code = NULL, error_detail = NULL, bug = NULL,
                run_at = CASE WHEN run_at = 'infinity' THEN run_at ELSE clock_timestamp() END
            FROM undone JOIN turn USING (kind)
            WHERE steps.id = undone.id
            RETURNING steps.queue, steps.run_at < 'infinity' AS due
        """),  # noqa: S608 - constants
        {"id": job_id},
    ).all()
    for queue, steps in Counter(step.queue for step in queued if step.due).items():
        ring_after_commit(connection, queue, steps)
