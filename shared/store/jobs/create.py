"""Jobs created."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID

from psycopg.types.json import Json, Jsonb
from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.infra.outbound import without_secrets
from shared.models.options import ResolvedOptions
from shared.speech.text.accuracy import check_reference
from shared.store.jobs.accuracy import measure_at_once
from shared.store.jobs.equal import find_original, raise_priority, share_transcript
from shared.store.jobs.filters import findable_members
from shared.store.limits import NO_LIMITS, Limits, check_room
from shared.store.successors import insert_fetches, insert_prepare
from shared.store.uploads import take
from shared.store.webhooks.endpoints import JobWebhook, keep_unlisted


@dataclass(frozen=True, slots=True)
class Remote:
    """A file that is to be fetched."""

    url: str
    cache: bool
    """Whether equal jobs may share a transcript."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be created; its source object is stored already, unless it is ``remote``."""

    id: UUID
    tenant: str
    options: ResolvedOptions
    source_key: str
    source_name: str
    source_bytes: int | None
    """None, as the digest: to be fetched."""
    sha256: str | None
    remote: Remote | None = None
    upload_id: UUID | None = None
    """The upload whose object is its source."""
    fingerprint: str | None = None
    """Of all that the transcript depends on; equal jobs of a tenant share one. None: not shared."""
    reference: str | None = None
    live_text: str | None = None
    """What a live session told of its audio while it was spoken."""
    priority: int = 0
    """Of a tenant's waiting jobs, those with the highest go first."""
    batch_id: UUID | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The client's own, returned unchanged."""
    webhook: JobWebhook | None = None
    result_url: str | None = None
    """The job's URL in webhook events; None: its path alone."""
    wanted_s: float | None = None
    """Of a call (``shared.store.jobs.calls``): for how long it is wanted, if nobody renews that."""
    traceparent: str | None = None
    """The span that submits it (``shared.infra.tracing``); None: it has no trace."""

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


Within = Callable[[Connection, NewJob, Created], None]
"""Is called within the transaction that creates a job, before its commit."""


def create_job(
    engine: Engine,
    job: NewJob,
    *,
    max_attempts: int,
    limits: Limits = NO_LIMITS,
    within: Within | None = None,
) -> Created:
    """Nothing -> job queued, with its ``prepare`` step queued, or ``fetch`` if it is remote.

    If an equal job of the tenant has succeeded: nothing -> succeeded, with its transcript. If one
    is under way: nothing -> queued without steps, to end as that one ends. A call with the same
    edits and no reference, metadata or webhook of its own joins that one instead. Either way the
    one under way gets the higher priority of the two.

    Raises:
        UploadNotFound, UploadIncomplete, DigestMismatch: its upload is of no use (any more).
        InvalidRequest: nothing can be measured against its reference.
        TooManyJobs, TooMuchAudio: the tenant has as much as ``limits`` allow.
    """
    if job.reference is not None:
        check_reference(job.reference)
    with begin(engine, job.tenant) as connection:
        check_room(connection, job.tenant, limits)
        created = insert_job(connection, job, max_attempts=max_attempts)
        if within is not None:
            within(connection, job, created)
    return created


def insert_job(connection: Connection, job: NewJob, *, max_attempts: int) -> Created:
    """Do as ``create_job`` within the caller's transaction, which has checked the limits."""
    original = find_original(connection, job.tenant, job.fingerprint)
    if original is not None:
        raise_priority(connection, original, job.priority)
        if job.wanted_s is not None and job.is_plain and _join(connection, original, job):
            return Created(original, joined=True)
    if job.upload_id is not None:
        take(connection, job.tenant, job.upload_id)
    endpoint_id = None
    if job.webhook is not None:
        endpoint_id = keep_unlisted(connection, job.tenant, job.webhook)
    connection.execute(_INSERT, _values(job, original, endpoint_id))
    if job.wanted_s is not None:
        connection.execute(
            text("""
                INSERT INTO calls (job_id, wanted_until)
                VALUES (:id, clock_timestamp() + make_interval(secs => :wanted_s))
            """),
            {"id": job.id, "wanted_s": job.wanted_s},
        )
    if job.remote is not None:
        remote = [(job.id, job.remote.url, job.remote.cache)]
        insert_fetches(connection, remote, max_attempts=max_attempts)
        return Created(job.id)
    assert job.source_bytes is not None
    if original is None:
        insert_prepare(connection, job.id, job.source_bytes, max_attempts)
        return Created(job.id)
    shared = share_transcript(connection, original)
    measure_at_once(connection, shared)
    return Created(job.id, cached=bool(shared))


def insert_remote(connection: Connection, jobs: Sequence[NewJob], *, max_attempts: int) -> None:
    """Nothing -> jobs of one tenant queued, each with its ``fetch`` step queued.

    It does as ``insert_job`` for each, a hundred in a round trip.
    """
    hooks = {job.webhook for job in jobs if job.webhook is not None}
    endpoints: dict[JobWebhook | None, UUID] = {
        hook: keep_unlisted(connection, jobs[0].tenant, hook)
        for hook in sorted(hooks, key=lambda hook: (hook.url, hook.secret))
    }
    for start in range(0, len(jobs), _AT_ONCE):
        some = jobs[start : start + _AT_ONCE]
        connection.execute(
            _INSERT,
            [_values(job, None, endpoints.get(job.webhook)) for job in some],
        )
        remote = [(job.id, job.remote) for job in some if job.remote is not None]
        insert_fetches(
            connection,
            [(job_id, file.url, file.cache) for job_id, file in remote],
            max_attempts=max_attempts,
        )


_AT_ONCE = 100
"""Jobs whose rows are sent in one round trip."""


def _values(job: NewJob, original: UUID | None, endpoint_id: UUID | None) -> dict[str, Any]:
    """Return the parameters of ``_INSERT``."""
    findable = findable_members(job.metadata)
    return {
        **{column.name: getattr(job, column.name) for column in fields(job)},
        "model": job.options.model,
        "options": Jsonb(job.options.model_dump(mode="json")),
        "original_id": original,
        "audio_url": None if job.remote is None else without_secrets(job.remote.url),
        "metadata": Json(dict(job.metadata)),
        "keys": list(findable),
        "values": list(findable.values()),
        "webhook_endpoint_id": endpoint_id,
    }


_INSERT = text("""
    WITH creating AS MATERIALIZED (
        -- Until the commit, so that list_jobs can wait for it.
        SELECT pg_advisory_xact_lock_shared(hashtextextended(:tenant, 1))
    ), created AS MATERIALIZED (
        SELECT nextval('event_ids') AS event FROM creating
    ), job AS (
        INSERT INTO jobs (id, tenant, state, model, options, fingerprint, original_id, upload_id,
                          source_key, source_name, source_bytes, sha256, audio_url, reference,
                          live_text, batch_id, metadata, webhook_endpoint_id, result_url, priority,
                          traceparent, first_event, last_event)
        SELECT CAST(:id AS uuid), :tenant, 'queued', :model, CAST(:options AS jsonb), :fingerprint,
               CAST(:original_id AS uuid), CAST(:upload_id AS uuid), :source_key, :source_name,
               CAST(:source_bytes AS bigint),
               :sha256, :audio_url, :reference, :live_text, CAST(:batch_id AS uuid),
               CAST(:metadata AS json), CAST(:webhook_endpoint_id AS uuid), :result_url,
               CAST(:priority AS integer), :traceparent, event, event
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
""")


def _join(connection: Connection, original: UUID, call: NewJob) -> bool:
    """Have the original wanted for as long as the call would be.

    False: it has ended, or has other edits, which are not part of the fingerprint.
    """
    return bool(
        connection.execute(
            text("""
                WITH same AS (
                    SELECT id FROM jobs
                    WHERE id = :original AND state IN ('queued', 'running')
                      AND options -> 'edits' = CAST(:edits AS jsonb)
                ), renewed AS (
                    UPDATE calls SET wanted_until = greatest(
                        wanted_until, clock_timestamp() + make_interval(secs => :wanted_s)
                    )
                    FROM same WHERE job_id = same.id
                )
                SELECT EXISTS (SELECT FROM same)
            """),
            {
                "original": original,
                "wanted_s": call.wanted_s,
                "edits": Jsonb(call.options.model_dump(mode="json")["edits"]),
            },
        ).scalar_one()
    )
