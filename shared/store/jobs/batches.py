"""Batches: jobs that were submitted together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin, read
from shared.infra.errors import BatchNotFound, LimitReached, RequestError
from shared.store.jobs.create import Created, NewJob, insert_job, insert_remote
from shared.store.jobs.end import end_batch
from shared.store.limits import Limits, check_room
from shared.store.states import JobState
from shared.store.webhooks.endpoints import JobWebhook, drop_unlisted, keep_unlisted


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch to be created."""

    id: UUID
    tenant: str
    jobs: Sequence[NewJob]
    webhook: JobWebhook | None
    """Told of the batch's end, beside the tenant's endpoints."""
    result_url: str


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch as its owner may see it."""

    id: UUID
    jobs: int
    """How many were created with it; fewer may be left."""
    counts: Mapping[JobState, int]
    """Of the jobs that are left, by state."""
    created_at: datetime
    completed_at: datetime | None
    """When all of its jobs had ended for the first time."""


def create_batch(
    engine: Engine,
    batch: NewBatch,
    *,
    max_attempts: int,
    limits: Limits,
    within: Callable[[Connection, Sequence[Created | RequestError]], None],
) -> Sequence[Created | RequestError]:
    """Nothing -> a batch and its jobs, in one transaction; returns what became of each job.

    A job that is refused leaves the others alone. Of a batch whose jobs are all refused nothing is
    left. ``within`` is called with the results before the commit.
    """
    with begin(engine, batch.tenant) as connection:
        endpoint_id = None
        if batch.webhook is not None:
            endpoint_id = keep_unlisted(connection, batch.tenant, batch.webhook)
        connection.execute(
            text("""
                INSERT INTO batches (id, tenant, webhook_endpoint_id, result_url)
                VALUES (:id, :tenant, :endpoint_id, :result_url)
            """),
            {
                "id": batch.id,
                "tenant": batch.tenant,
                "endpoint_id": endpoint_id,
                "result_url": batch.result_url,
            },
        )
        results = _insert(connection, batch, max_attempts, limits)
        accepted = [each for each in results if isinstance(each, Created)]
        if accepted:
            connection.execute(
                text("UPDATE batches SET jobs = :n WHERE id = :id"),
                {"id": batch.id, "n": len(accepted)},
            )
            end_batch(connection, batch.id)
        else:
            connection.execute(text("DELETE FROM batches WHERE id = :id"), {"id": batch.id})
            if endpoint_id is not None:
                drop_unlisted(connection, endpoint_id)
        within(connection, results)
    return results


def get_batch(engine: Engine, tenant: str, batch_id: UUID) -> BatchView:
    """Return a batch.

    Raises:
        BatchNotFound: there is none of that id, or it is another tenant's.
    """
    with read(engine, tenant) as connection:
        rows = connection.execute(
            text("""
                SELECT batches.jobs, batches.created_at, completed_at, state, count(jobs.id) AS n
                FROM batches LEFT JOIN jobs ON jobs.batch_id = batches.id
                WHERE batches.id = :id AND batches.tenant = :tenant
                GROUP BY batches.id, state
            """),
            {"id": batch_id, "tenant": tenant},
        ).all()
    if not rows:
        raise BatchNotFound(f"there is no batch {batch_id}")
    counts = dict.fromkeys(JobState, 0)
    counts |= {JobState(row.state): row.n for row in rows if row.state is not None}
    return BatchView(batch_id, rows[0].jobs, counts, rows[0].created_at, rows[0].completed_at)


def _insert(
    connection: Connection, batch: NewBatch, max_attempts: int, limits: Limits
) -> list[Created | RequestError]:
    """Insert the jobs that fit: first those that are fetched, which wait for nobody."""
    results: list[Created | RequestError | None] = [None] * len(batch.jobs)
    remote: list[NewJob] = []
    known: list[int] = []
    full: LimitReached | None = None
    for idx, job in enumerate(batch.jobs):
        if full is None:
            try:
                check_room(connection, batch.tenant, limits, ahead=len(remote) + len(known))
            except LimitReached as error:
                full = error
        if full is not None:
            results[idx] = full
        elif job.remote is not None:
            remote.append(job)
            results[idx] = Created(job.id)
        else:
            known.append(idx)
    if remote:
        insert_remote(connection, remote, max_attempts=max_attempts)
    # In one order, so that two batches with the same files do not wait for each other.
    for idx in sorted(known, key=lambda idx: batch.jobs[idx].fingerprint or ""):
        try:
            with connection.begin_nested():
                results[idx] = insert_job(connection, batch.jobs[idx], max_attempts=max_attempts)
        except RequestError as error:
            results[idx] = error
    return [each for each in results if each is not None]
