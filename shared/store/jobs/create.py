"""Jobs created."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID

from psycopg.types.json import Json, Jsonb
from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.models.options import ResolvedOptions
from shared.speech.accuracy import check_reference
from shared.store.jobs.accuracy import measure_at_once
from shared.store.jobs.equal import find_original, raise_priority, share_transcript
from shared.store.jobs.filters import findable_members
from shared.store.limits import NO_LIMITS, Limits, check_room
from shared.store.successors import insert_prepare
from shared.store.webhooks.endpoints import keep_unlisted


@dataclass(frozen=True, slots=True)
class JobWebhook:
    """A URL that is told of one job's end, beside the tenant's endpoints."""

    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be created; its source object must be stored already."""

    id: UUID
    tenant: str
    options: ResolvedOptions
    source_key: str
    source_name: str
    source_bytes: int
    sha256: str
    fingerprint: str | None = None
    """Of all that the transcript depends on; equal jobs of a tenant share one. None: not shared."""
    reference: str | None = None
    live_text: str | None = None
    """What a live session told of its audio while it was spoken."""
    priority: int = 0
    """Of a tenant's waiting jobs, those with the highest go first."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The client's own, returned unchanged."""
    webhook: JobWebhook | None = None
    result_url: str | None = None
    """The job's URL in webhook events; None: its path alone."""
    wanted_s: float | None = None
    """Of a call (``shared.store.jobs.calls``): for how long it is wanted, if nobody renews that."""

    @property
    def is_plain(self) -> bool:
        """Whether an equal job can stand for it: it has nothing that only its own row can keep."""
        own = self.reference, self.live_text, self.webhook
        return own == (None, None, None) and not self.metadata


@dataclass(frozen=True, slots=True)
class Created:
    """What became of a new job."""

    job_id: UUID
    """Its id, or that of the job which stands for it."""
    cached: bool = False
    """Whether it has succeeded at once, with an equal job's transcript."""
    joined: bool = False
    """Whether an equal job under way stands for it: there is no new job, and its file is not
    needed."""


def create_job(
    engine: Engine, job: NewJob, *, max_attempts: int, limits: Limits = NO_LIMITS
) -> Created:
    """Nothing -> job queued, with its ``prepare`` step queued.

    If an equal job of the tenant has succeeded: nothing -> succeeded, with its transcript. If one
    is under way: nothing -> queued without steps, to end as that one ends. A call without a
    reference, metadata or webhook of its own joins that one instead. Either way the one under way
    gets the higher priority of the two.

    Raises:
        InvalidRequest: nothing can be measured against its reference.
        TooManyJobs, TooMuchAudio: the tenant has as much as ``limits`` allow.
    """
    if job.reference is not None:
        check_reference(job.reference)
    with begin(engine, job.tenant) as connection:
        check_room(connection, job.tenant, limits)
        original = find_original(connection, job.tenant, job.fingerprint)
        if original is not None:
            raise_priority(connection, original, job.priority)
            if job.wanted_s is not None and job.is_plain and _join(connection, original, job):
                return Created(original, joined=True)
        endpoint_id = None
        if job.webhook is not None:
            endpoint_id = keep_unlisted(connection, job.tenant, job.webhook.url, job.webhook.secret)
        findable = findable_members(job.metadata)
        connection.execute(
            text("""
                WITH creating AS MATERIALIZED (
                    -- Until the commit, so that list_jobs can wait for it.
                    SELECT pg_advisory_xact_lock_shared(hashtextextended(:tenant, 1))
                ), created AS MATERIALIZED (
                    SELECT nextval('event_ids') AS event FROM creating
                ), job AS (
                    INSERT INTO jobs (id, tenant, state, model, options, fingerprint, original_id,
                                      source_key, source_name, source_bytes, sha256, reference,
                                      live_text, metadata, webhook_endpoint_id, result_url,
                                      priority, first_event, last_event)
                    SELECT CAST(:id AS uuid), :tenant, 'queued', :model, CAST(:options AS jsonb),
                           :fingerprint, CAST(:original_id AS uuid), :source_key, :source_name,
                           CAST(:source_bytes AS bigint), :sha256, :reference, :live_text,
                           CAST(:metadata AS json), CAST(:webhook_endpoint_id AS uuid), :result_url,
                           CAST(:priority AS integer), event, event
                    FROM created
                    RETURNING id, tenant, last_event
                ), findable AS (
                    INSERT INTO job_metadata (tenant, key, value, first_event, job_id)
                    SELECT tenant, key, value, last_event, id FROM job CROSS JOIN unnest(
                        CAST(:keys AS text[]), CAST(:values AS text[])
                    ) AS member (key, value)
                ), upload AS (
                    -- The object belongs to a job now.
                    DELETE FROM removals WHERE prefix = :source_key
                )
                INSERT INTO job_events (id, job_id, event)
                SELECT last_event, id, 'job.queued' FROM job
            """),
            {
                **{column.name: getattr(job, column.name) for column in fields(job)},
                "model": job.options.model,
                "options": Jsonb(job.options.model_dump(mode="json")),
                "original_id": original,
                "metadata": Json(dict(job.metadata)),
                "keys": list(findable),
                "values": list(findable.values()),
                "webhook_endpoint_id": endpoint_id,
            },
        )
        if job.wanted_s is not None:
            connection.execute(
                text("""
                    INSERT INTO calls (job_id, wanted_until)
                    VALUES (:id, clock_timestamp() + make_interval(secs => :wanted_s))
                """),
                {"id": job.id, "wanted_s": job.wanted_s},
            )
        if original is None:
            insert_prepare(connection, job.id, job.source_bytes, max_attempts)
            return Created(job.id)
        shared = share_transcript(connection, original)
        measure_at_once(connection, shared)
        return Created(job.id, cached=bool(shared))


def _join(connection: Connection, original: UUID, call: NewJob) -> bool:
    """Have the original wanted for as long as the call would be, unless it has ended."""
    return bool(
        connection.execute(
            text("""
                WITH renewed AS (
                    UPDATE calls SET wanted_until = greatest(
                        wanted_until, clock_timestamp() + make_interval(secs => :wanted_s)
                    )
                    WHERE job_id = :original
                )
                SELECT state IN ('queued', 'running') FROM jobs WHERE id = :original
            """),
            {"original": original, "wanted_s": call.wanted_s},
        ).scalar_one()
    )
