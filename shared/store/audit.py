"""The audit trail: one row of ``job_events`` for each change of a job or a step."""

from uuid import UUID

from sqlalchemy import Connection, text

from shared.store.news import announce


def record(
    connection: Connection,
    job_id: UUID,
    event: str,
    *,
    step_id: int | None = None,
    attempt: int | None = None,
    epoch: int | None = None,
    worker: str | None = None,
    detail: str | None = None,
) -> None:
    connection.execute(
        text("""
            INSERT INTO job_events (job_id, step_id, event, attempt, epoch, worker, detail)
            VALUES (:job_id, :step_id, :event, :attempt, :epoch, :worker, :detail)
        """),
        {
            "job_id": job_id,
            "step_id": step_id,
            "event": event,
            "attempt": attempt,
            "epoch": epoch,
            "worker": worker,
            "detail": detail,
        },
    )
    announce(connection, job_id)
