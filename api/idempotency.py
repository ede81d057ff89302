"""``Idempotency-Key``: a request that a client repeats makes its jobs once.

The header is that of the IETF's draft ("The Idempotency-Key HTTP Header Field"). Two requests are
the same if they ask for the same: their files have one digest, or one URL, and their options are
equal. Their bytes do not count, as a form's boundaries differ each time.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

from anyio import to_thread
from fastapi import Request
from pydantic_core import to_jsonable_python
from sqlalchemy import Connection

from api.intake.submit import (
    JobRequest,
    Remote,
    Source,
    Terms,
    Uploaded,
    read_digest,
    request_of,
    submit,
)
from api.openapi import KEY_PATTERN
from api.resources import Resources
from shared.infra.errors import DatabaseUnavailable, IdempotencyKeyReused, InvalidRequest
from shared.store.idempotency import (
    HOLD_S,
    Answered,
    Hold,
    answer_key,
    free_key,
    renew_key,
    take_key,
)
from shared.store.jobs.create import Created, NewJob
from shared.store.webhooks.endpoints import JobWebhook

log = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
"""Header of the answer to a request that was repeated."""
_KEY = re.compile(KEY_PATTERN)


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission."""

    created: Created
    is_replayed: bool
    """Whether an earlier request with the same key has made the job."""


def key_of(request: Request) -> str | None:
    """Return a request's key, with or without the quotes of the draft; None: it has none.

    Raises:
        InvalidRequest: it is of no use.
    """
    sent = request.headers.get(HEADER)
    if sent is None:
        return None
    if not _KEY.fullmatch(sent):
        raise InvalidRequest(f"{HEADER} has 1 to 255 printable ASCII characters, without spaces")
    is_quoted = len(sent) > 2 and sent[0] == sent[-1] == '"'
    return sent[1:-1] if is_quoted else sent


async def submit_once(
    request: Request,
    resources: Resources,
    tenant: str,
    source: Source | Remote | Uploaded,
    terms: Terms | None = None,
) -> Submitted:
    """Submit a file, unless an earlier request with the same key has done so.

    Raises:
        IdempotencyKeyInUse: that request is still under way.
        IdempotencyKeyReused: that request asked for something else.
        InvalidRequest: the key is of no use.
        Further errors: those of ``submit``.
    """
    terms = terms or Terms()
    key = key_of(request)
    if key is None:
        return Submitted(await submit(resources.intake, tenant, source, terms), is_replayed=False)
    what = request.url.path
    async with holding(resources, tenant, key) as known:
        if isinstance(known, Answered):
            if isinstance(source, Remote):
                file = source.url
            elif isinstance(source, Uploaded):
                file = source.upload.sha256 or ""
            else:
                file = await read_digest(resources.intake, tenant, source)
            check_same(known, _fingerprint(what, file, request_of(source), terms.webhook))
            answer = known.answer
            created = Created(UUID(answer["job_id"]), joined=bool(answer["joined"]))
            return Submitted(created, is_replayed=True)
        hold = known

        def answer_within(connection: Connection, job: NewJob, created: Created) -> None:
            file = job.remote.url if job.remote is not None else job.sha256 or ""
            answer = {"job_id": str(created.job_id), "joined": created.joined}
            asked = _fingerprint(what, file, request_of(source), terms.webhook)
            answer_key(connection, hold, asked, answer)

        own = replace(terms, within=answer_within)
        return Submitted(await submit(resources.intake, tenant, source, own), is_replayed=False)


@contextlib.asynccontextmanager
async def holding(resources: Resources, tenant: str, key: str) -> AsyncIterator[Hold | Answered]:
    """Hold a key while the block runs, or give it what the key stands for.

    If the block fails, the key is free again, unless it was answered.

    Raises:
        IdempotencyKeyInUse: another request holds it.
    """
    threads = resources.intake.small_threads
    known = await to_thread.run_sync(take_key, resources.engine, tenant, key, limiter=threads)
    if isinstance(known, Answered):
        yield known
        return
    renewing = asyncio.create_task(_renew(resources, known), name="idempotency")
    try:
        yield known
    except BaseException:
        freeing = asyncio.ensure_future(to_thread.run_sync(partial(_free, resources, known)))
        resources.intake.cleanups.add(freeing)
        await asyncio.shield(freeing)
        raise
    finally:
        renewing.cancel()


def check_same(known: Answered, fingerprint: str) -> None:
    """See that a request is the one that its key stands for.

    Raises:
        IdempotencyKeyReused: it is another.
    """
    if known.fingerprint != fingerprint:
        raise IdempotencyKeyReused(f"this {HEADER} was used for another request")


def fingerprint_of(facts: Any) -> str:
    """Return a digest of what a request asks for, a JSON value."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _fingerprint(what: str, file: str, asked: JobRequest, webhook: JobWebhook | None) -> str:
    options: Mapping[str, Any] = asked.asked.model_dump(mode="json")
    told = None if webhook is None else to_jsonable_python(webhook)
    return fingerprint_of([what, file, options, told])


async def _renew(resources: Resources, hold: Hold) -> None:
    while True:
        await asyncio.sleep(HOLD_S / 3)
        try:
            await to_thread.run_sync(renew_key, resources.engine, hold)
        except DatabaseUnavailable as error:
            log.warning("%s: an Idempotency-Key may be lost", error)


def _free(resources: Resources, hold: Hold) -> None:
    try:
        free_key(resources.engine, hold)
    except DatabaseUnavailable as error:
        log.warning("%s: an Idempotency-Key is free in %g s", error, HOLD_S)
