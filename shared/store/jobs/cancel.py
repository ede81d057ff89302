"""Jobs canceled."""

from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.infra.errors import JobEnded
from shared.store.jobs.end import end_jobs
from shared.store.jobs.equal import lock_with_equals, promote_a_copy
from shared.store.states import JobState


def cancel_job(engine: Engine, tenant: str, job_id: UUID, *, max_attempts: int) -> None:
    """Job queued or running -> canceled: none of its steps is claimed or completed any more.

    Workers find their leases void and stop within a chunk. Audio and finished chunks stay for a
    retry. The oldest job that waits for this one is transcribed in its place. Canceling a canceled
    job changes nothing.

    Raises:
        JobNotFound: there is no such job for this tenant.
        JobEnded: it has succeeded or failed already.
    """
    with begin(engine, tenant) as connection:
        state = lock_with_equals(connection, tenant, job_id)
        if state in (JobState.SUCCEEDED, JobState.FAILED):
            raise JobEnded(f"the job has {state} already")
        if state == JobState.CANCELED:
            return
        end_as_canceled(connection, job_id, max_attempts)


def end_as_canceled(
    connection: Connection, job_id: UUID, max_attempts: int, detail: str | None = None
) -> None:
    """Job queued or running -> canceled, and a job that waits for it takes its place.

    The caller has locked the job with its equals. ``detail`` is for the audit trail.
    """
    connection.execute(
        text("""
            UPDATE jobs SET state = 'canceled', finished_at = clock_timestamp() WHERE id = :id
        """),
        {"id": job_id},
    )
    end_jobs(connection, [job_id], detail)
    promote_a_copy(connection, job_id, max_attempts)
