"""What the endpoints share: made once per application, given to them as a dependency."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import Depends, Request
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import Engine

from api.access.authenticator import Authenticator
from api.access.principal import Principal
from api.calls import Calls
from api.intake.admission import MAX_LARGE, Admission, process_share
from api.intake.landing import Cleanups
from api.intake.options import OptionCheck, ServedModels
from api.intake.submit import Intake
from api.limits.live_usage import LiveUsage
from api.limits.places import Places
from api.limits.refreshed import Refreshed
from api.limits.requests import RequestCounter
from api.live.hearer import Hearer
from api.live.recording import Recordings
from api.live.sessions import LiveMetrics, LiveSessions
from api.uploads.transfers import Transfers
from api.uploads.uploads import Uploads
from api.watch import Watcher
from api.webhook_tests import TEST_THREADS, TestPlaces
from shared.infra import tracing
from shared.infra.database import make_engine
from shared.infra.errors import TenantNotFound
from shared.infra.outbound import Outbound
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.models.catalogue import Catalogue, read_catalogue
from shared.queue.broker import make_broker
from shared.queue.wakeups import Wakeups
from shared.store.counts import Backlog, measure_backlog
from shared.store.jobs.calls import renew_calls
from shared.store.limits import Limits, get_limits
from shared.store.news import News, NewsListener, look_at_jobs
from shared.store.objects.remover import Remover
from shared.store.usage import count_live
from shared.store.wakeups import connect_wakeups
from shared.store.workers import SERVED_LATELY_S, served_models

_LARGE_THREADS = MAX_LARGE
"""Mostly one for each large upload; while few are under way, each sends and hashes several parts at
once."""

_SMALL_THREADS = 8
"""Each holds one of the 20 connections of the database's pool while it commits."""

_STORAGE_CONNECTIONS = _LARGE_THREADS + _SMALL_THREADS + 8
"""Some more for the remover and the probes."""

_STORAGE_READ_TIMEOUT_S = 4.0
_STORAGE_ATTEMPTS = 2
"""Two attempts of 4 s and a pause of at most 1 s: a frozen object store is reported within 10 s."""

_JSON_PLACES = 4
"""Large JSON bodies in memory at once; each is there up to three times while it is decoded."""

_MEASURING_THREADS = 2
"""Comparisons of long texts at once; each uses one core."""

_ANSWER_S = 5.0
"""How long a request waits for one answer of Postgres, so that clients have theirs within 10 s."""

_LIMITS_S = 5.0
"""How often the limits of a tenant that asks are read, though news of changes come at once."""

_BACKLOG_S = 5.0
"""How often the backlog is measured while jobs are submitted."""

_PROBE_THREADS = 8
"""More than there are probes, and each has at most one thread."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The application's connections and fixed data."""

    settings: Settings
    catalogue: Catalogue
    engine: Engine
    storage: Storage
    remover: Remover
    probe_threads: ThreadPoolExecutor
    intake: Intake
    uploads: Uploads
    measuring_threads: CapacityLimiter
    """Comparisons of long texts take seconds, so they have threads of their own."""
    watcher: Watcher
    calls: Calls
    outbound: Outbound
    test_places: TestPlaces
    test_threads: CapacityLimiter
    upload_bytes: Counter
    live: LiveSessions
    recordings: Recordings
    limits: Refreshed[Limits]
    """Those of each tenant."""
    request_counter: RequestCounter
    authenticator: Authenticator


def find_served(engine: Engine, settings: Settings) -> frozenset[str]:
    """Return the models whose jobs are taken: served by a worker lately, or on demand.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    within_s = max(SERVED_LATELY_S, settings.live_s)
    return served_models(engine, within_s=within_s) | settings.on_demand_ids


@contextmanager
def open_resources(
    settings: Settings, registry: CollectorRegistry, hearer: Hearer
) -> Iterator[Resources]:
    """Make the resources; nothing is connected to before it is needed.

    Raises:
        ModelError: the catalogue cannot be read, or lacks a model that a setting names.
    """
    catalogue = read_catalogue(settings)
    tracing.start("api", f"api@{socket.gethostname()}-{os.getpid()}")
    engine = make_engine(settings, answer_s=_ANSWER_S)
    storage = Storage(
        settings.storage_url.get_secret_value(),
        public_url=settings.storage_public_url,
        connections=_STORAGE_CONNECTIONS,
        read_timeout_s=_STORAGE_READ_TIMEOUT_S,
        attempts=_STORAGE_ATTEMPTS,
    )
    wakeups = Wakeups(engine, make_broker(settings), settings)
    connect_wakeups(engine, wakeups.ring)
    remover = Remover(engine, storage)
    probe_threads = ThreadPoolExecutor(_PROBE_THREADS, thread_name_prefix="probe")
    limits = Refreshed(
        partial(_limits_of, settings, engine), Limits.of(settings), every_s=_LIMITS_S
    )

    def streams_of(tenant: str) -> int:
        return limits.known(tenant).max_streams

    watcher = Watcher(
        partial(look_at_jobs, engine), Places(settings.max_streams, "streams", streams_of)
    )
    tell = partial(_tell, asyncio.get_running_loop())
    listener = NewsListener(engine, partial(tell, watcher.tell), partial(tell, limits.renew))
    outbound = Outbound.of(settings)
    cached_jobs = Counter(
        "longhand_cached_jobs",
        "Jobs answered at once with the transcript of an equal one.",
        registry=registry,
    )
    authenticator = Authenticator(settings, engine)
    intake = Intake(
        settings=settings,
        catalogue=catalogue,
        engine=engine,
        storage=storage,
        remover=remover,
        options=OptionCheck(
            catalogue,
            settings.default_model,
            outbound,
            ServedModels(partial(find_served, engine, settings)),
        ),
        admission=Admission(process_share()),
        outbound=outbound,
        limits=limits,
        backlog=Refreshed(
            lambda _: measure_backlog(engine, live_s=settings.live_s),
            Backlog(jobs=0, wait_s=None),
            every_s=_BACKLOG_S,
        ),
        large_threads=CapacityLimiter(_LARGE_THREADS),
        small_threads=CapacityLimiter(_SMALL_THREADS),
        cleanups=Cleanups(),
        json_places=Places(_JSON_PLACES, "large JSON bodies"),
        count_cached=cached_jobs.inc,
    )
    try:
        yield Resources(
            settings=settings,
            catalogue=catalogue,
            engine=engine,
            storage=storage,
            remover=remover,
            probe_threads=probe_threads,
            intake=intake,
            uploads=Uploads(intake, Transfers(engine, storage, keep_s=settings.keep_uploads_s)),
            measuring_threads=CapacityLimiter(_MEASURING_THREADS),
            watcher=watcher,
            calls=Calls(
                lambda job_ids, for_s: renew_calls(engine, job_ids, for_s=for_s),
                places=Places(settings.max_calls, "calls", streams_of),
                grace_s=settings.call_grace_s,
            ),
            outbound=outbound,
            test_places=TestPlaces(),
            test_threads=CapacityLimiter(TEST_THREADS),
            upload_bytes=Counter(
                "longhand_upload_bytes", "Bytes of uploads received.", registry=registry
            ),
            live=LiveSessions(
                settings,
                catalogue,
                hearer,
                LiveMetrics.of(registry),
                LiveUsage(partial(count_live, engine)),
                lambda tenant: limits.known(tenant).max_live_sessions,
            ),
            recordings=Recordings(intake),
            limits=limits,
            request_counter=RequestCounter(settings.broker_url.get_secret_value()),
            authenticator=authenticator,
        )
    finally:
        listener.close()
        wakeups.close()
        remover.close()
        probe_threads.shutdown(wait=False, cancel_futures=True)
        engine.dispose()
        tracing.stop()


def _limits_of(settings: Settings, engine: Engine, tenant: str) -> Limits:
    """Return a tenant's limits; an issuer of JWTs may name tenants that are not in the database."""
    with suppress(TenantNotFound):
        return Limits.of(settings).with_own(get_limits(engine, tenant))
    return Limits.of(settings)


def _tell(loop: asyncio.AbstractEventLoop, hear: Callable[[Any], None], news: News | str) -> None:
    """Hand news from the listener's thread to what hears them on the loop."""
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(hear, news)


# Dependencies are coroutines, though they wait for nothing: FastAPI calls other functions in a
# thread, and that hop costs more than what they do.
def from_state(name: str) -> Any:
    """Return a dependency: what the application's state has under this name."""

    async def get(request: Request) -> object:
        return getattr(request.app.state, name)

    return Depends(get)


async def current_principal(request: Request) -> Principal:
    """Return who asks; ``authorize`` has found that out."""
    principal: Principal = request.state.principal
    return principal


async def current_tenant(request: Request) -> str:
    """Return whose jobs the request may see."""
    principal: Principal = request.state.principal
    return principal.tenant


Provided = Annotated[Resources, from_state("resources")]
Asking = Annotated[Principal, Depends(current_principal)]
Tenant = Annotated[str, Depends(current_tenant)]
