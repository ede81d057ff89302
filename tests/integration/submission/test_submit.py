"""Submitting without HTTP: any source of bytes becomes a job."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text
from uuid_utils.compat import uuid7

from api.access.principal import ANYBODY, principal_of_request
from api.intake.submit import Intake, JobRequest, Uploaded, submit
from api.live.transcriber import Transcriber
from api.resources import Resources, open_resources
from harness.jobs.job_store import claim
from harness.servers.api_server import stored
from shared.infra.errors import InvalidRequest, JobNotFound
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.models.options import JobOptions
from shared.store.counts import count_jobs
from shared.store.jobs.read import get_job
from shared.store.limits import NO_LIMITS
from shared.store.objects.keys import source_key
from shared.store.uploads import NewUpload, create_upload, get_upload


@dataclass
class Fetched:
    """A file from elsewhere, with its options known beforehand."""

    pieces: list[bytes]
    job: JobRequest
    n_bytes: int | None = None
    client = "somewhere"

    async def begin(self) -> None:
        pass

    async def data(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await asyncio.sleep(0)
            yield piece

    def request(self) -> JobRequest:
        return self.job


@pytest.fixture
def intake(settings: Settings) -> Iterator[Intake]:
    with ExitStack() as stack:

        async def enter() -> Resources:
            return stack.enter_context(
                open_resources(settings, CollectorRegistry(), Transcriber(settings))
            )

        yield asyncio.run(enter()).intake


async def fetched(intake: Intake, *pieces: bytes, **options: object) -> Fetched:
    asked = JobOptions.model_validate(options)
    resolved = await intake.options.resolve(asked)
    return Fetched([*pieces], JobRequest("talk.mp3", asked, resolved))


@pytest.mark.parametrize("is_small", [True, False])
def test_any_source_becomes_a_job(
    intake: Intake, database: Engine, storage: Storage, is_small: bool
) -> None:
    async def scenario() -> UUID:
        principal_of_request.set(ANYBODY)  # who may have any priority
        source = await fetched(intake, b"au", b"dio", language="en", priority=3)
        source.n_bytes = 5 if is_small else None
        return (await submit(intake, "tenant-a", source)).job_id

    job = get_job(database, "tenant-a", asyncio.run(scenario()))
    assert (job.source_name, job.source_bytes, job.priority) == ("talk.mp3", 5, 3)
    assert job.sha256 == hashlib.sha256(b"audio").hexdigest()
    assert job.options.language == "en"
    assert storage.read(source_key(job.id), 0, 9) == b"audio"
    with pytest.raises(JobNotFound):
        get_job(database, "tenant-b", job.id)


def uploaded(intake: Intake, storage: Storage, job: JobRequest) -> Uploaded:
    """Return a file that was uploaded before."""
    new = NewUpload(
        uuid7(), "default", "a.wav", 5, sha256=hashlib.sha256(b"audio").hexdigest(), resumable=False
    )
    upload = create_upload(intake.engine, new, NO_LIMITS, keep_s=3600)
    storage.put(upload.key, b"audio")
    with intake.engine.begin() as connection:
        connection.execute(text("UPDATE uploads SET state = 'complete'"))
    return Uploaded(get_upload(intake.engine, "default", upload.id), job)


def test_an_upload_becomes_jobs_and_its_file_is_kept(
    intake: Intake, database: Engine, storage: Storage
) -> None:
    async def scenario() -> list[UUID]:
        request = (await fetched(intake, language="en", cache=False)).job
        upload = uploaded(intake, storage, request)
        return [(await submit(intake, "default", upload)).job_id for _ in range(2)]

    jobs = [get_job(database, "default", job_id) for job_id in asyncio.run(scenario())]
    for job in jobs:
        assert (job.source_bytes, job.sha256) == (5, hashlib.sha256(b"audio").hexdigest())
        assert storage.read(claim(database, job.id, "prepare").source_key, 0, 9) == b"audio"
    with database.begin() as connection:
        left = connection.execute(text("SELECT count(*) FROM removals")).scalar_one()
    assert left == 0


def test_a_source_that_is_refused_on_the_way_leaves_no_job_and_no_file(
    intake: Intake, database: Engine, storage: Storage
) -> None:
    before = stored(storage)

    async def scenario() -> None:
        source = await fetched(intake, b"audio")

        async def data() -> AsyncIterator[bytes]:
            yield b"audio"
            raise InvalidRequest("not what was announced")

        source.data = data  # type: ignore[method-assign]
        with pytest.raises(InvalidRequest):
            await submit(intake, "default", source)

    asyncio.run(scenario())
    assert stored(storage) == before
    assert sum(count_jobs(database).by_state.values()) == 0
