"""Submitting: a file is taken in and its job committed, whichever way they came.

This module knows no HTTP. Every way in ends here as a file that comes in (``Source``: a form, a raw
body, a live session), one at a URL (``Remote``) or one that was uploaded before (``Uploaded``).
Every face makes its own answer of the job.
"""

import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from sqlalchemy import Engine
from uuid_utils.compat import uuid7

from api.intake.admission import SMALL_BYTES, Admission
from api.intake.landing import Cleanups, Landed, Landing, too_large
from api.intake.options import OptionCheck
from api.limits.backlog import check_backlog
from api.limits.places import Places
from api.limits.refreshed import Refreshed
from shared.infra import tracing
from shared.infra.background import Background
from shared.infra.errors import CommitUncertain, DatabaseUnavailable, JobNotFound
from shared.infra.outbound import Outbound
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.models.catalogue import Catalogue
from shared.models.options import MAX_PRIORITY, JobOptions, ResolvedOptions, fingerprint
from shared.store.counts import Backlog
from shared.store.jobs.create import Created, NewJob, Within, create_job
from shared.store.jobs.create import Remote as RemoteFile
from shared.store.jobs.read import get_job
from shared.store.limits import Limits, look_for_room
from shared.store.objects.keys import source_key
from shared.store.objects.removals import abandon_upload, begin_upload
from shared.store.uploads import Upload
from shared.store.webhooks.endpoints import JobWebhook

log = logging.getLogger(__name__)

LIMIT_S = 12 * 3600.0
"""How long a file may take to come in: 2 GiB at 50 kB/s. Sources keep to it."""

ALLOWANCE_S = 2 * LIMIT_S
"""When the sweeper removes a file whose job, or upload, was not committed. None is under way by
then: what follows the last byte takes minutes at most."""

CALL_PRIORITY = 2 * MAX_PRIORITY + 1
"""Added to the priority of a job whose client waits for the answer: it comes before all jobs of its
tenant whose clients do not."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What is asked for a file."""

    file_name: str
    asked: JobOptions
    options: ResolvedOptions
    """What ``OptionCheck.resolve`` made of ``asked``."""
    live_text: str | None = None
    """What a live session told of it."""


class Source(Protocol):
    """A file that comes in, and what is asked for it."""

    @property
    def n_bytes(self) -> int | None:
        """The size of all that comes in, as declared; None: unknown."""

    @property
    def client(self) -> str:
        """Whose share of the places for uploads it takes."""

    async def begin(self) -> None:
        """Wait until something of it comes in.

        Raises:
            RequestError: nothing does.
        """

    def data(self) -> AsyncIterator[bytes | memoryview]:
        """Yield the file's bytes as they come, within ``LIMIT_S``.

        Raises:
            RequestError: the file, or what is asked for it, is refused.
        """

    def request(self) -> JobRequest:
        """Return what is asked; called once ``data`` has ended."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A file at a URL, which a worker fetches, and what is asked for it."""

    url: str
    """It has passed ``Outbound.check_url``."""
    job: JobRequest


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that was uploaded before, and what is asked for it."""

    upload: Upload
    """It is complete."""
    job: JobRequest


def request_of(source: Source | Remote | Uploaded) -> JobRequest:
    """Return what is asked for a file that was submitted."""
    return source.job if isinstance(source, Remote | Uploaded) else source.request()


@dataclass(frozen=True, slots=True)
class Intake:
    """What submitting works with; one for the whole process."""

    settings: Settings
    catalogue: Catalogue
    engine: Engine
    storage: Storage
    remover: Background
    options: OptionCheck
    admission: Admission
    outbound: Outbound
    limits: Refreshed[Limits]
    """Those of each tenant."""
    backlog: Refreshed[Backlog]
    """Of all tenants; it has one name, the empty one."""
    large_threads: CapacityLimiter
    """For uploads alone, so that a slow object store delays nothing else."""
    small_threads: CapacityLimiter
    """For small uploads alone, so that large ones do not delay them."""
    cleanups: Cleanups
    json_places: Places
    """For JSON bodies that carry files: they are in memory whole."""
    count_cached: Callable[[], None]
    """Is told of each job that got an equal one's transcript at once."""

    async def drain(self, limit_s: float) -> None:
        """Wait until no upload is under way, nor the cleanup of one that failed."""
        await self.admission.drain(limit_s)
        await self.cleanups.drain(limit_s)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is special about a submission, beside its source."""

    wanted_s: float | None = None
    """The job is a call (``shared.store.jobs.calls``), wanted for so long if nobody renews that. An
    equal one that is under way may stand for it."""
    batch_id: UUID | None = None
    webhook: JobWebhook | None = None
    """Of a dialect; the native API's is among the options."""
    within: Within | None = None
    """Is called within the transaction that commits the job."""


NOTHING_SPECIAL = Terms()


async def submit(
    intake: Intake,
    tenant: str,
    source: Source | Remote | Uploaded,
    terms: Terms = NOTHING_SPECIAL,
) -> Created:
    """Take a file in and commit its job.

    If anything fails before the commit, nothing of the file stays. The job's steps are children of
    this function's span, in the caller's trace or one of their own.

    Raises:
        RequestError: the file, or what is asked for it, is refused.
        TooManyUploads: the upload's turn did not come.
        LimitReached: the tenant has as much as it may.
        QueueFull: too many jobs wait.
        StorageUnavailable: the object store failed.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with tracing.span("submit", tracing.Kind.PRODUCER, {"longhand.tenant": tenant}) as span:
        created = await _submit(intake, tenant, source, terms)
        span.set(
            {
                "longhand.job.id": str(created.job_id),
                "longhand.job.cached": created.cached,
                "longhand.job.joined": created.joined,
            }
        )
        return created


async def _submit(
    intake: Intake, tenant: str, source: Source | Remote | Uploaded, terms: Terms
) -> Created:
    check_backlog(await intake.backlog.get(""), intake.settings)
    limits = await intake.limits.get(tenant)
    if isinstance(source, Remote | Uploaded):
        commit = partial(_commit_known, intake, tenant, source, limits, terms)
        return await to_thread.run_sync(commit, limiter=intake.small_threads)
    # A client that cannot have a place, or a job, learns it before it sends anything. One that
    # sends nothing takes none.
    intake.admission.check(source.n_bytes, tenant, source.client)
    is_small = source.n_bytes is not None and source.n_bytes <= SMALL_BYTES
    if limits.restrict_jobs and not is_small:
        look = partial(look_for_room, intake.engine, tenant, limits)
        await to_thread.run_sync(look, limiter=intake.small_threads)
    # An unreachable database is reported before the file is read.
    await intake.options.prepare()
    await source.begin()
    async with intake.admission.turn(source.n_bytes, tenant, source.client):
        return await _land(intake, tenant, source, limits, terms)


async def _land(
    intake: Intake, tenant: str, source: Source, limits: Limits, terms: Terms
) -> Created:
    job_id = uuid7()
    key = source_key(job_id)
    is_small = source.n_bytes is not None and source.n_bytes <= SMALL_BYTES
    landing = Landing(
        intake.storage,
        key,
        max_bytes=limits.max_upload_bytes,
        threads=intake.small_threads if is_small else intake.large_threads,
        begin=partial(begin_upload, intake.engine, key, allowance_s=ALLOWANCE_S),
        abandon=partial(abandon, intake, key),
        cleanups=intake.cleanups,
    )

    def commit(landed: Landed) -> Created:
        request = source.request()
        job = _new_job(intake, job_id, tenant, request, terms, key=key, landed=landed)
        return _commit(intake, job, limits, terms.within)

    return await landing.land(source.data(), commit)


def _commit_known(
    intake: Intake, tenant: str, source: Remote | Uploaded, limits: Limits, terms: Terms
) -> Created:
    """Commit the job of a file that does not come in now."""
    return _commit(intake, known_job(intake, tenant, source, terms), limits, terms.within)


async def read_digest(intake: Intake, tenant: str, source: Source) -> str:
    """Read a file and keep nothing of it; return its hex SHA-256.

    It takes the place of an upload meanwhile.

    Raises:
        RequestError: the file, or what is asked for it, is refused.
        TooManyUploads: its turn did not come.
        LimitReached: the tenant has as many uploads under way as it may.
    """
    limits = await intake.limits.get(tenant)
    digest, n_bytes = hashlib.sha256(), 0
    await source.begin()
    async with intake.admission.turn(source.n_bytes, tenant, source.client):
        async for piece in source.data():
            n_bytes += len(piece)
            if n_bytes > limits.max_upload_bytes:
                raise too_large(limits.max_upload_bytes)
            digest.update(piece)
    return digest.hexdigest()


def known_job(intake: Intake, tenant: str, source: Remote | Uploaded, terms: Terms) -> NewJob:
    """Return the job of a file that does not come in now."""
    job_id = uuid7()
    if isinstance(source, Remote):
        remote = RemoteFile(source.url, cache=source.job.asked.cache)
        key = source_key(job_id)
        return _new_job(intake, job_id, tenant, source.job, terms, key=key, remote=remote)
    upload = source.upload
    assert upload.sha256 is not None
    landed = Landed(upload.size_bytes, upload.sha256)
    job = _new_job(intake, job_id, tenant, source.job, terms, key=upload.key, landed=landed)
    return replace(job, upload_id=upload.id)


def _new_job(
    intake: Intake,
    job_id: UUID,
    tenant: str,
    request: JobRequest,
    terms: Terms,
    *,
    key: str,
    landed: Landed | None = None,
    remote: RemoteFile | None = None,
) -> NewJob:
    asked, wanted_s = request.asked, terms.wanted_s
    equal = None
    if landed is not None and asked.cache:
        equal = fingerprint(landed.sha256, request.options, intake.catalogue)
    webhook = terms.webhook
    if asked.webhook_url is not None and asked.webhook_secret is not None:
        webhook = JobWebhook(asked.webhook_url, asked.webhook_secret)
    return NewJob(
        id=job_id,
        tenant=tenant,
        options=request.options,
        priority=asked.priority + (0 if wanted_s is None else CALL_PRIORITY),
        fingerprint=equal,
        reference=asked.reference,
        live_text=request.live_text,
        batch_id=terms.batch_id,
        metadata=asked.metadata,
        webhook=webhook,
        result_url=f"{intake.settings.public_url}/jobs/{job_id}",
        traceparent=tracing.current().traceparent,
        source_key=key,
        source_name=request.file_name,
        source_bytes=None if landed is None else landed.n_bytes,
        sha256=None if landed is None else landed.sha256,
        remote=remote,
        wanted_s=wanted_s,
    )


def _commit(
    intake: Intake,
    job: NewJob,
    limits: Limits,
    within: Within | None,
) -> Created:
    """Commit the job; see whether it was committed where the connection broke meanwhile."""
    try:
        created = create_job(
            intake.engine,
            job,
            max_attempts=intake.settings.max_attempts,
            limits=limits,
            within=within,
        )
    except CommitUncertain as uncertain:
        try:
            created = Created(job.id, cached=get_job(intake.engine, job.tenant, job.id).cached)
        except JobNotFound:
            raise uncertain from None
    if created.joined and job.upload_id is None:
        abandon(intake, job.source_key)
    log.info("job %s is taken", created.job_id, extra={"fields": {"job_id": created.job_id}})
    if created.cached:
        intake.count_cached()
        intake.remover.ring()  # the job has its transcript, so its file is not needed
    return created


def abandon(intake: Intake, key: str) -> None:
    """Have a file removed, unless what it is for was committed after all."""
    try:
        abandon_upload(intake.engine, key)
    except DatabaseUnavailable as error:
        log.warning("%s: %s is removed when its allowance is over", error, key)
        return
    intake.remover.ring()
