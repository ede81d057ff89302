"""Whether the service is alive, has started, and can take jobs."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from fastapi import APIRouter, Response

from api.access.routes import needs, public
from api.live.status import live_status
from api.native.schemas.service import Alive, Check, HealthSummary, Readiness, Startup, Status
from api.outages import Outages
from api.resources import Resources, find_served, from_state
from shared import __version__
from shared.infra.errors import LonghandError, RequestError
from shared.infra.quantities import duration
from shared.infra.schema import check as check_database
from shared.models.choice import choose_model, served_supply
from shared.models.options import JobOptions
from shared.queue import broker
from shared.store.accounts.scopes import Scope
from shared.store.counts import (
    Backlog,
    JobCounts,
    QueueLoad,
    count_jobs,
    measure_backlog,
    measure_queues,
)
from shared.store.objects.removals import try_upload
from shared.store.workers import ModelState, WorkerView, live_workers, model_states

GLANCE_LIMIT_S = 0.2
"""How long an answer that does not depend on Postgres waits to tell what only Postgres knows."""

CHECK_LIMIT_S = 1.0
"""How long a health check waits for a dependency; orchestrators usually give one second or more."""

_SCHEMA_AGAIN_S = 10.0
"""How long the database's schema is taken to be what it was."""

_WRITE_AGAIN_S = 30.0
"""An object is stored this often; checks in between only ask for the bucket, as writes cost."""
_PROBE_KEY = "health/probe"


Answer = TypeVar("Answer")


class Probe(Generic[Answer]):
    """A blocking question, asked in a thread; at most one is under way, however often it is asked.

    So a dependency that hangs costs one thread, not one for every health check.
    """

    def __init__(self, question: Callable[[], Answer], threads: Executor) -> None:
        self._question = question
        self._threads = threads
        self._asked: asyncio.Future[Answer] | None = None

    async def ask(self, timeout_s: float) -> Answer:
        """Return the answer, or raise what the question raised.

        Raises:
            TimeoutError: no answer in time; the question stays under way.
        """
        if self._asked is None or self._asked.done():
            loop = asyncio.get_running_loop()
            self._asked = loop.run_in_executor(self._threads, self._question)
            # Keeps asyncio from logging an error that nobody waits for any more.
            self._asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        asked = self._asked
        done, _ = await asyncio.wait([asked], timeout=timeout_s)
        if not done:
            raise TimeoutError
        return asked.result()


@dataclass(frozen=True, slots=True)
class Load:
    """The jobs, the queues and the workers."""

    jobs: JobCounts
    queues: list[QueueLoad]
    backlog: Backlog
    workers: list[WorkerView]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Which models workers have loaded, or need only load again."""

    models: frozenset[str]
    unloaded: frozenset[str]
    """Those of which all workers were idle."""
    language: str | None
    """The only one of these models; None: there are several, or no model."""
    default: str | None
    """What a job gets that names no model and no language; None: none."""
    default_device: str | None
    default_language: str | None


class Health:
    """Checks of the dependencies."""

    def __init__(self, resources: Resources, outages: Outages) -> None:
        self._resources = resources
        self._outages = outages
        self._written_at: float | None = None
        self._schema_seen_at: float | None = None
        self._began = time.monotonic()
        threads = resources.probe_threads
        self.schema: Probe[None] = Probe(self._check_schema, threads)
        self.postgres: Probe[list[WorkerView]] = Probe(self._check_database, threads)
        self.redis: Probe[None] = Probe(lambda: broker.ping(resources.settings), threads)
        self.s3: Probe[None] = Probe(self._check_storage, threads)
        self.loaded: Probe[Loaded] = Probe(self._find_loaded, threads)
        self.load: Probe[Load] = Probe(self._measure_load, threads)

    async def readiness(self) -> Readiness:
        """Ask all dependencies at once."""
        postgres, redis, s3 = await asyncio.gather(
            _check(self.postgres), _check(self.redis), _check(self.s3)
        )
        checks = {"postgres": postgres.check, "redis": redis.check, "s3": s3.check}
        states = model_states(postgres.answer or ())
        ready, unloaded = _in(states, "ready"), _in(states, "unloaded")
        offered = {model.id for model in self._resources.catalogue.visible}
        serves = not self._resources.live.is_draining
        return Readiness(
            status="ready"
            if serves and all(each.ok for each in checks.values())
            else "unavailable",
            checks=checks,
            models={
                model: states.get(model, "absent") for model in sorted(offered | states.keys())
            },
            timestamp=time.time(),
            model_loaded=None if postgres.answer is None else bool(ready),
            language=self._language(ready | unloaded),
        )

    async def glance(self) -> Loaded | None:
        """Return which models are loaded; None if Postgres does not answer at once."""
        try:
            return await self.loaded.ask(GLANCE_LIMIT_S)
        except (LonghandError, TimeoutError):
            return None

    async def status(self) -> Status:
        """Ask for everything; what is not known is null."""
        readiness, measured = await asyncio.gather(self.readiness(), _check(self.load))
        known: dict[str, Any] = {}
        if (load := measured.answer) is not None:
            known = {
                "workers": load.workers,
                "jobs": load.jobs.by_state,
                "queues": load.queues,
                "backlog": load.backlog,
            }
        known |= live_status(self._resources.live, known.get("workers", ()))
        known["version"] = __version__
        known["uptime_s"] = round(time.monotonic() - self._began, 1)
        return Status.model_validate({**dict(readiness), **known}, from_attributes=True)

    def _check_schema(self) -> None:
        """Raise ``DatabaseUnavailable`` unless this version works on the database's schema.

        It may be migrated at any time, by a newer version.
        """
        now = time.monotonic()
        seen_at, self._schema_seen_at = self._schema_seen_at, None
        if seen_at is None or now - seen_at >= _SCHEMA_AGAIN_S:
            check_database(self._resources.engine)
            seen_at = now
        self._schema_seen_at = seen_at

    def _check_database(self) -> list[WorkerView]:
        """Return the living workers, if the database takes jobs.

        Raises:
            DatabaseUnavailable: it takes none.
        """
        self._check_schema()
        self._outages.check()
        try_upload(self._resources.engine)
        return self._find_workers()

    def _check_storage(self) -> None:
        """Store an object and remove it, or ask for the bucket if that was done lately.

        Raises:
            StorageUnavailable: it takes no objects.
        """
        storage, now = self._resources.storage, time.monotonic()
        if self._written_at is not None and now - self._written_at < _WRITE_AGAIN_S:
            storage.ping()
            return
        self._written_at = None
        storage.put(_PROBE_KEY, b"")
        storage.delete_prefix(_PROBE_KEY)
        self._written_at = now

    def _find_workers(self) -> list[WorkerView]:
        return live_workers(self._resources.engine, live_s=self._resources.settings.live_s)

    def _find_loaded(self) -> Loaded:
        self._check_schema()
        resources, workers = self._resources, self._find_workers()
        served = find_served(resources.engine, resources.settings)
        supply = served_supply(resources.catalogue, resources.settings.default_model, served)
        states = model_states(workers)
        ready, unloaded = _in(states, "ready"), _in(states, "unloaded")
        language = self._language(ready | unloaded)
        try:
            default = choose_model(JobOptions(), supply).model
        except RequestError:  # all models may be hidden
            return Loaded(ready, unloaded, language, None, None, None)
        devices = [worker.device for worker in workers if worker.model == default.id]
        device = devices[0] if devices else None
        return Loaded(ready, unloaded, language, default.id, device, default.only_language)

    def _language(self, models: Collection[str]) -> str | None:
        known = self._resources.catalogue.models
        languages = {known[each].only_language for each in models if each in known}
        return languages.pop() if len(languages) == 1 else None

    def _measure_load(self) -> Load:
        self._check_schema()
        engine = self._resources.engine
        backlog = measure_backlog(engine, live_s=self._resources.settings.live_s)
        return Load(count_jobs(engine), measure_queues(engine), backlog, self._find_workers())


class _Outcome(NamedTuple, Generic[Answer]):
    """The state of a dependency, and its answer if it gave one."""

    check: Check
    answer: Answer | None


def _in(states: Mapping[str, ModelState], state: ModelState) -> frozenset[str]:
    """Return the models that are in a state."""
    return frozenset(model for model, current in states.items() if current == state)


async def _check(probe: Probe[Answer]) -> _Outcome[Answer]:
    try:
        return _Outcome(Check(ok=True), await probe.ask(CHECK_LIMIT_S))
    except TimeoutError:
        return _Outcome(Check(ok=False, detail=f"no answer within {duration(CHECK_LIMIT_S)}"), None)
    except LonghandError as error:
        return _Outcome(Check(ok=False, detail=str(error)), None)


Provided = Annotated[Health, from_state("health")]

router = APIRouter(tags=["health"])


@public
@router.get("/health", summary="Ask whether a model is loaded")
async def show_health(health: Provided) -> HealthSummary:
    """Answer, and tell what is known of the models. It is always 200."""
    loaded = await health.glance()
    is_new = loaded is not None and not (loaded.models or loaded.unloaded)
    return HealthSummary(
        status="initializing" if is_new else "healthy",
        timestamp=time.time(),
        model_loaded=None if loaded is None else bool(loaded.models),
        language=None if loaded is None else loaded.language,
    )


@public
@router.get("/health/live", summary="Ask whether the process answers")
async def show_liveness() -> Alive:
    """Answer, without a check of anything else."""
    return Alive()


@public
@router.get(
    "/health/ready",
    summary="Ask whether jobs can be taken",
    responses={503: {"model": Readiness, "description": "Not ready"}},
)
@router.get("/ready", include_in_schema=False)
async def show_readiness(response: Response, health: Provided) -> Readiness:
    """Tell whether Postgres, Redis and S3 work, and which models have a worker."""
    readiness = await health.readiness()
    response.status_code = 200 if readiness.status == "ready" else 503
    return readiness


@public
@router.get(
    "/health/startup",
    summary="Ask whether the database is migrated",
    responses={503: {"model": Startup, "description": "Not started"}},
)
async def show_startup(response: Response, health: Provided) -> Startup:
    """Tell whether the database has a schema on which this version works."""
    check, _ = await _check(health.schema)
    if check.ok:
        return Startup(status="started")
    response.status_code = 503
    return Startup(status="starting", detail=check.detail)


@needs(Scope.JOBS_READ)
@router.get("/health/status", summary="See everything at a glance")
async def show_status(health: Provided) -> Status:
    """Give people an overview. It is always 200, as machines do not act on it."""
    return await health.status()
