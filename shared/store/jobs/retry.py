"""A job that failed or was canceled, taken up again where it stopped."""

from collections import Counter
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.infra.errors import AudioGone, JobNotFound, JobNotRetryable
from shared.store.events import record
from shared.store.jobs.accuracy import measure_at_once
from shared.store.jobs.equal import find_original, lock_equal_jobs, share_transcript
from shared.store.states import RETRYABLE_JOB_STATES
from shared.store.successors import TURNS, insert_prepare
from shared.store.wakeups import ring_after_commit


def retry_job(engine: Engine, tenant: str, job_id: UUID, *, max_attempts: int) -> None:
    """Job failed or canceled -> queued, its next run begun: steps not done -> queued anew.

    A job that ended without steps of its own, as it waited for another one, begins as
    ``create_job`` has it begin: with an equal job's transcript, waiting for one under way, or with
    a ``prepare`` step.

    Raises:
        JobNotFound: there is no such job for this tenant.
        JobNotRetryable: it is in another state.
        AudioGone: its audio was removed, and is still needed.
    """
    with begin(engine) as connection:
        job = connection.execute(
            text("""
                SELECT fingerprint, source_bytes FROM jobs WHERE id = :id AND tenant = :tenant
            """),
            {"id": job_id, "tenant": tenant},
        ).one_or_none()
        if job is None:
            raise JobNotFound(f"there is no job {job_id}")
        # A job gets steps of its own under this lock: whether it has some does not change from here
        # on. Those that have no fingerprint have them from the beginning.
        if job.fingerprint is not None:
            lock_equal_jobs(connection, tenant, job.fingerprint)
        computes = _computes(connection, job_id)
        # The original's row before the copy's, as everywhere.
        original = None if computes else find_original(connection, tenant, job.fingerprint)
        audio_gone = _take_up(connection, job_id, original)
        if computes:
            if audio_gone and not _all_is_heard(connection, job_id):
                raise AudioGone("the audio of the job was removed; send the file again")
            _queue_what_is_not_done(connection, job_id)
            return
        shared = [] if original is None else share_transcript(connection, original)
        if audio_gone and job_id not in shared:
            raise AudioGone("the audio of the job was removed; send the file again")
        if original is None:
            insert_prepare(connection, job_id, job.source_bytes, max_attempts)
        measure_at_once(connection, shared)


def _computes(connection: Connection, job_id: UUID) -> bool:
    found = connection.execute(
        text("SELECT EXISTS (SELECT FROM steps WHERE job_id = :id AND kind = 'prepare')"),
        {"id": job_id},
    )
    return bool(found.scalar_one())


def _take_up(connection: Connection, job_id: UUID, original: UUID | None) -> bool:
    """Job failed or canceled -> queued; returns whether its audio was removed."""
    job = connection.execute(
        text("SELECT state, audio_deleted_at FROM jobs WHERE id = :id FOR NO KEY UPDATE"),
        {"id": job_id},
    ).one_or_none()
    if job is None:
        raise JobNotFound(f"there is no job {job_id}")
    if job.state not in RETRYABLE_JOB_STATES:
        raise JobNotRetryable(
            f"the job is {job.state}; only one that failed or was canceled can be retried"
        )
    # What is not said anew stays: the plan, what is done of it, and what it was measured to take.
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
    return job.audio_deleted_at is not None


def _all_is_heard(connection: Connection, job_id: UUID) -> bool:
    found = connection.execute(
        text("SELECT plan_complete AND chunks_done = chunks_total FROM jobs WHERE id = :id"),
        {"id": job_id},
    )
    return bool(found.scalar_one())


def _queue_what_is_not_done(connection: Connection, job_id: UUID) -> None:
    """Steps void or failed -> queued, with new turns and all their attempts before them.

    The epoch is raised: a worker that has not noticed the job's end yet holds nothing from now on.
    Chunks on hold stay on hold.
    """
    queued = connection.execute(
        text(f"""
            WITH undone AS (
                SELECT id, kind, queue, row_number() OVER (PARTITION BY kind ORDER BY idx) AS n
                FROM steps WHERE job_id = :id AND kind <> 'deliver' AND state <> 'done'
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
