"""Jobs' ends, and batches': what every transition to a terminal state writes beside that itself.

The job's unfinished steps become void, and what it has used is counted. If an endpoint wants the
event, one webhook event is written per end, and a delivery with its ``deliver`` step for each such
endpoint. All of it is one transaction, in which the caller has locked the jobs' rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row
from uuid_utils.compat import uuid7

from shared.infra.database import text
from shared.infra.webhooks.attempt import MAX_ATTEMPTS
from shared.store.news import announce
from shared.store.queues import DELIVER_QUEUE
from shared.store.states import JobState, StepKind
from shared.store.usage import COUNT, IDS, SPENT
from shared.store.wakeups import ring_after_commit
from shared.store.webhooks.deliveries import event_body
from shared.store.webhooks.endpoints import EventType


def end_jobs(connection: Connection, job_ids: Sequence[UUID], detail: str | None = None) -> None:
    """Write what follows from the jobs' terminal states, which their rows have already.

    ``detail`` is for the audit trail.
    """
    ended = connection.execute(
        text(f"""
            WITH ended AS (
                SELECT id, tenant, state, run, metadata, result_url, error_code, error_detail,
                       webhook_endpoint_id, finished_at, batch_id
                FROM jobs WHERE id = ANY ({IDS})
            ), unfinished AS (
                UPDATE steps SET state = 'void', lease_until = NULL
                WHERE job_id = ANY ({IDS}) AND kind <> 'deliver' AND state IN ('queued', 'running')
            ), noted AS (
                INSERT INTO job_events (job_id, event, detail)
                SELECT id, 'job.' || state, :detail FROM ended
                RETURNING id, job_id
            ), spent AS (
                {SPENT}
            ), counted AS (
                {COUNT}
            ), latest AS (
                UPDATE jobs
                SET last_event = noted.id, counted_audio_s = counted_audio_s + spent.audio_s,
                    counted_model_s = counted_model_s + spent.model_s
                FROM noted JOIN spent ON spent.id = noted.job_id
                WHERE jobs.id = noted.job_id
            ), told AS (
                -- Locked, so that no endpoint is deleted before the delivery to it is written.
                SELECT ended.id AS job_id, endpoint.id
                FROM ended JOIN webhook_endpoints AS endpoint ON enabled AND (
                    endpoint.tenant = ended.tenant AND listed AND 'job.' || state = ANY (events)
                    OR endpoint.id = webhook_endpoint_id
                )
                ORDER BY endpoint.id FOR KEY SHARE OF endpoint
            )
            SELECT ended.*, ARRAY(SELECT id FROM told WHERE job_id = ended.id) AS endpoints
            FROM ended ORDER BY ended.id
        """),  # noqa: S608 - constants
        {"ids": list(job_ids), "detail": detail},
    ).all()
    for job in ended:
        announce(connection, job.id)
        _queue_deliveries(connection, job)
    for batch_id in sorted({job.batch_id for job in ended if job.batch_id is not None}):
        end_batch(connection, batch_id)


def end_batch(connection: Connection, batch_id: UUID) -> None:
    """Batch under way -> complete, if all of its jobs have ended; its event is written then.

    A batch completes once: what is retried later changes its counts alone. Its row is locked until
    the commit, so of two jobs that end at once the second sees that the first has. Jobs are locked
    before it.

    The event's deliveries are steps of the job that ended last, and go if that is deleted.
    """
    under_way = connection.execute(
        text("SELECT FROM batches WHERE id = :id AND completed_at IS NULL FOR NO KEY UPDATE"),
        {"id": batch_id},
    )
    if under_way.first() is None:
        return
    # A statement of its own: it sees what was committed before the lock was free.
    batch = connection.execute(
        text("""
            UPDATE batches SET completed_at = clock_timestamp()
            WHERE id = :id AND jobs IS NOT NULL AND NOT EXISTS (
                SELECT FROM jobs WHERE batch_id = :id AND state IN ('queued', 'running')
            )
            RETURNING id, tenant, result_url, webhook_endpoint_id, completed_at, (
                SELECT jsonb_object_agg(state, n) FROM (
                    SELECT state, count(*) AS n FROM jobs WHERE batch_id = :id GROUP BY state
                ) AS counted
            ) AS counts
        """),
        {"id": batch_id},
    ).one_or_none()
    if batch is None:
        return
    last_job = connection.execute(
        text("""
            SELECT id FROM jobs WHERE batch_id = :id ORDER BY finished_at DESC, id DESC LIMIT 1
            FOR KEY SHARE SKIP LOCKED
        """),
        {"id": batch_id},
    ).scalar_one_or_none()
    if last_job is None:  # all of them were deleted
        return
    kind = str(EventType.BATCH_COMPLETED)
    endpoints = connection.execute(
        text("""
            SELECT id FROM webhook_endpoints
            WHERE enabled AND (
                tenant = :tenant AND listed AND :type = ANY (events) OR id = :endpoint_id
            )
            ORDER BY id FOR KEY SHARE
        """),
        {"tenant": batch.tenant, "type": kind, "endpoint_id": batch.webhook_endpoint_id},
    ).scalars()
    data = {
        "batch_id": str(batch.id),
        "result_url": batch.result_url or f"/batches/{batch.id}",
        "counts": {state: batch.counts.get(state, 0) for state in JobState},
    }
    body = event_body(kind, batch.completed_at, data)
    told = list(endpoints)
    if told:
        _write_event(
            connection,
            {
                "tenant": batch.tenant,
                "job_id": last_job,
                "batch_id": batch.id,
                "run": 0,
                "type": kind,
                "body": body,
            },
            told,
        )


def fail_job(connection: Connection, job_id: UUID, code: str, detail: str) -> None:
    """Job queued or running -> failed, and the jobs that wait for it, which have the same audio.

    The caller has locked the job's row.
    """
    failed = connection.execute(
        text("""
            UPDATE jobs SET state = 'failed', error_code = :code, error_detail = :detail,
                            finished_at = clock_timestamp()
            WHERE id = :id OR original_id = :id AND state = 'queued'
            RETURNING id
        """),
        {"id": job_id, "code": code, "detail": detail},
    ).scalars()
    end_jobs(connection, failed.all(), f"{code}: {detail}")


def insert_deliver_steps(
    connection: Connection, job_id: UUID, deliveries: Sequence[tuple[UUID, UUID]]
) -> None:
    """Nothing -> ``deliver`` step queued, for each pair of a delivery's and its endpoint's id."""
    connection.execute(
        text("""
            INSERT INTO steps (job_id, kind, idx, queue, tenant, rank, lane, max_attempts, input)
            SELECT jobs.id, :kind, used.n + delivery.turn - 1, :queue, jobs.tenant, -jobs.priority,
                   delivery.lane, :max_attempts, jsonb_build_object('delivery_id', delivery.id)
            FROM jobs,
                 unnest(CAST(:ids AS text[]), CAST(:lanes AS text[]))
                     WITH ORDINALITY AS delivery (id, lane, turn),
                 (SELECT coalesce(max(idx) + 1, 0) AS n FROM steps
                  WHERE job_id = :job_id AND kind = :kind) AS used
            WHERE jobs.id = :job_id
        """),
        {
            "job_id": job_id,
            "kind": StepKind.DELIVER,
            "queue": DELIVER_QUEUE,
            "max_attempts": MAX_ATTEMPTS,
            "ids": [str(delivery_id) for delivery_id, _ in deliveries],
            "lanes": [str(endpoint_id) for _, endpoint_id in deliveries],
        },
    )
    ring_after_commit(connection, DELIVER_QUEUE, len(deliveries))


def fail_delivery(connection: Connection, delivery_id: str, reason: str) -> None:
    """Delivery pending -> failed; its job does not change."""
    connection.execute(
        text("""
            UPDATE webhook_deliveries
            SET state = 'failed', error = :reason, finished_at = clock_timestamp()
            WHERE id = :id AND state = 'pending'
        """),
        {"id": delivery_id, "reason": reason},
    )


def _queue_deliveries(connection: Connection, job: Row[Any]) -> None:
    """Write the event of a job's end and its deliveries, if any endpoint wants it."""
    if not job.endpoints:
        return
    event_type = f"job.{job.state}"
    data: dict[str, Any] = {
        "job_id": str(job.id),
        "state": job.state,
        "result_url": job.result_url or f"/jobs/{job.id}",
        "metadata": job.metadata,
    }
    if job.error_code is not None:
        data["error"] = {"code": job.error_code, "detail": job.error_detail}
    _write_event(
        connection,
        {
            "tenant": job.tenant,
            "job_id": job.id,
            "batch_id": None,
            "run": job.run,
            "type": event_type,
            "body": event_body(event_type, job.finished_at, data),
        },
        job.endpoints,
    )


def _write_event(
    connection: Connection, event: Mapping[str, Any], endpoints: Sequence[UUID]
) -> None:
    """Write an event, its deliveries to the endpoints, and their steps."""
    deliveries = [(uuid7(), endpoint_id) for endpoint_id in endpoints]
    connection.execute(
        text("""
            WITH event AS (
                INSERT INTO webhook_events (id, tenant, job_id, batch_id, run, type, body)
                VALUES (:event_id, :tenant, :job_id, CAST(:batch_id AS uuid), :run, :type, :body)
            )
            INSERT INTO webhook_deliveries (id, tenant, event_id, endpoint_id)
            SELECT delivery.id, :tenant, :event_id, delivery.endpoint_id
            FROM unnest(CAST(:ids AS uuid[]), CAST(:endpoints AS uuid[]))
                     AS delivery (id, endpoint_id)
        """),
        {
            **event,
            "event_id": uuid7(),
            "ids": [delivery_id for delivery_id, _ in deliveries],
            "endpoints": [endpoint_id for _, endpoint_id in deliveries],
        },
    )
    insert_deliver_steps(connection, event["job_id"], deliveries)
