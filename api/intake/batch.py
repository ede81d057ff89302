"""A batch of jobs: a JSON body that names up to a thousand files."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from anyio import to_thread
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection
from uuid_utils.compat import uuid7

from api.intake.json_job import FileReference, reference_source
from api.intake.submit import Intake, Remote, Terms, Uploaded, known_job
from api.limits.backlog import check_backlog
from api.validation import refusal
from shared.infra import tracing
from shared.infra.errors import ConflictingOptions, InvalidRequest, RequestError
from shared.infra.outbound import MAX_URL_CHARS, URL_PATTERN
from shared.infra.webhooks.signature import SECRET_PATTERN, check_secret
from shared.models.options import JobOptions
from shared.store.jobs.batches import NewBatch, create_batch
from shared.store.jobs.create import Created, NewJob
from shared.store.webhooks.endpoints import JobWebhook

MAX_JOBS = 1_000
MAX_BATCH_BYTES = 8 * 1024**2
_SOURCES = ("audio_url", "upload_id")
_AT_ONCE = 50
"""Jobs that are checked before other requests have their turn: some milliseconds."""

Result = Created | RequestError


class BatchRequest(BaseModel):
    """The JSON body of ``POST /jobs/batch``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jobs: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=MAX_JOBS,
        description="each names its file by audio_url or upload_id, and has options of its own",
    )
    options: dict[str, Any] = Field(default={}, description="of all jobs that do not say otherwise")
    webhook_url: str | None = Field(
        default=None,
        max_length=MAX_URL_CHARS,
        description="told once, when all jobs of the batch have ended (batch.completed); needs "
        "webhook_secret",
        json_schema_extra={"pattern": URL_PATTERN},
        examples=["https://your-receiver.example/longhand"],
    )
    webhook_secret: str | None = Field(
        default=None,
        description="signs what is sent to webhook_url",
        json_schema_extra={"pattern": SECRET_PATTERN},
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a batch."""

    id: UUID | None
    """None: all of its jobs were refused."""
    results: Sequence[Result]
    """One for each job, in their order."""


def batch_schema() -> dict[str, Any]:
    """Return the JSON schema of a ``BatchRequest``."""
    schema = BatchRequest.model_json_schema()
    named = FileReference.model_json_schema()
    named["oneOf"] = [
        {"required": [name], "properties": {name: {"type": "string"}}} for name in _SOURCES
    ]
    schema["properties"]["jobs"]["items"] = named
    schema["properties"]["options"] |= JobOptions.model_json_schema()
    schema["examples"] = [{"jobs": [{"audio_url": "https://example.com/talk.mp3"}]}]
    return schema


def parse_batch(body: bytes) -> BatchRequest:
    """Return a body's content; the jobs' own members are checked one by one later.

    Raises:
        InvalidRequest: it is malformed.
    """
    try:
        batch = BatchRequest.model_validate_json(body, strict=True)
    except ValidationError as error:
        known = (*BatchRequest.model_fields, *JobOptions.model_fields)
        raise refusal(error, known, "the body is wrong: ") from error
    try:
        JobOptions.model_validate_json(json.dumps(batch.options), strict=True)
    except ValidationError as error:
        raise refusal(error, JobOptions.model_fields, "options is wrong: ") from error
    return batch


async def submit_batch(
    intake: Intake,
    tenant: str,
    batch: BatchRequest,
    within: Callable[[Connection, Batch], None],
) -> Batch:
    """Commit the jobs of a batch, all of those that are not refused at once.

    ``within`` is called within the transaction that commits them.

    Raises:
        RequestError: the batch's own webhook is refused.
        QueueFull: too many jobs wait.
        DatabaseUnavailable: Postgres cannot be reached; there are no jobs.
    """
    webhook = _webhook(intake, batch)
    check_backlog(await intake.backlog.get(""), intake.settings)
    limits = await intake.limits.get(tenant)
    batch_id = uuid7()
    sources: list[Remote | Uploaded | RequestError] = []
    for idx, named in enumerate(batch.jobs):
        if idx % _AT_ONCE == 0:
            await asyncio.sleep(0)
        try:
            sources.append(await _source(intake, tenant, {**batch.options, **named}))
        except RequestError as error:
            sources.append(error)
    terms = Terms(batch_id=batch_id)
    taken = [
        _traced_job(intake, tenant, each, terms)
        for each in sources
        if not isinstance(each, RequestError)
    ]

    def whole(made: Sequence[Result]) -> Batch:
        rest = iter(made)
        results = [each if isinstance(each, RequestError) else next(rest) for each in sources]
        is_empty = all(isinstance(each, RequestError) for each in results)
        return Batch(None if is_empty else batch_id, results)

    new = NewBatch(
        batch_id, tenant, taken, webhook, f"{intake.settings.public_url}/batches/{batch_id}"
    )
    commit = partial(
        create_batch,
        intake.engine,
        new,
        max_attempts=intake.settings.max_attempts,
        limits=limits,
        within=lambda connection, made: within(connection, whole(made)),
    )
    made = await to_thread.run_sync(commit, limiter=intake.small_threads)
    for each in made:
        if isinstance(each, Created) and each.cached:
            intake.count_cached()
            intake.remover.ring()
    return whole(made)


def _traced_job(intake: Intake, tenant: str, source: Remote | Uploaded, terms: Terms) -> NewJob:
    """Return a job of a batch, whose trace is its own: one of all thousand would be unreadable."""
    request = tracing.current().context
    span = tracing.begin_trace(
        "submit", tracing.Kind.PRODUCER, links=[] if request is None else [request]
    )
    with span.active():
        job = known_job(intake, tenant, source, terms)
    span.set(
        {
            "longhand.tenant": tenant,
            "longhand.job.id": str(job.id),
            "longhand.batch.id": str(terms.batch_id),
        }
    )
    span.end()
    return job


async def _source(intake: Intake, tenant: str, named: dict[str, Any]) -> Remote | Uploaded:
    try:
        reference = FileReference.model_validate_json(json.dumps(named), strict=True)
    except ValidationError as error:
        raise refusal(error, FileReference.model_fields) from error
    given = [name for name in _SOURCES if getattr(reference, name) is not None]
    if len(given) != 1:
        kind = ConflictingOptions if given else InvalidRequest
        raise kind(f"a job of a batch has exactly one of {', '.join(_SOURCES)}")
    return await reference_source(intake, tenant, reference)


def _webhook(intake: Intake, batch: BatchRequest) -> JobWebhook | None:
    if batch.webhook_url is None and batch.webhook_secret is None:
        return None
    if batch.webhook_url is None or batch.webhook_secret is None:
        raise ConflictingOptions("webhook_url and webhook_secret are given together or not at all")
    intake.outbound.check_url(batch.webhook_url)
    check_secret(batch.webhook_secret)
    return JobWebhook(batch.webhook_url, batch.webhook_secret)
