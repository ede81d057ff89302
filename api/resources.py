"""What the endpoints work with: made once per application, handed to them by dependency."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, cast
from uuid import UUID

from anyio import CapacityLimiter
from fastapi import Depends, Request
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import Engine

from api.intake.upload import UploadSlots
from api.watch import Watcher
from shared import __version__
from shared.infra.database import make_engine
from shared.infra.outbound import Outbound
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.models.catalogue import Catalogue, read_catalogue
from shared.queue.broker import make_broker
from shared.queue.dispatch import Doorbell
from shared.store.events import glimpse_jobs
from shared.store.news import NewsListener
from shared.store.objects.remover import Remover
from shared.store.workers import SERVED_LATELY_S, served_models

DEFAULT_TENANT = "default"

MAX_UPLOADS = 32
"""Uploads received at once by one process; each holds up to about three parts of 8 MiB, and a
connection of the object store's pool, which has as many."""

_MEASURING_THREADS = 2
"""Each uses one core."""

_ANSWER_S = 5.0
"""How long a request waits for one answer of Postgres: clients are to have theirs within 10 s."""

_TEST_THREADS = 8
"""Webhook tests at once; a receiver that hangs takes 15 s of one."""

_PROBE_THREADS = 8
"""More than there are probes, and each has at most one thread."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The application's connections and fixed data."""

    settings: Settings
    version: str
    catalogue: Catalogue
    engine: Engine
    storage: Storage
    doorbell: Doorbell
    remover: Remover
    probe_threads: ThreadPoolExecutor
    upload_slots: UploadSlots
    upload_threads: CapacityLimiter
    """Uploads have threads of their own, so that a slow object store delays nothing else."""
    measuring_threads: CapacityLimiter
    """Error rates of long texts take seconds: not in the threads of other requests."""
    watcher: Watcher
    outbound: Outbound
    test_threads: CapacityLimiter
    upload_bytes: Counter
    cached_jobs: Counter

    def find_served(self) -> frozenset[str]:
        """Return the models whose jobs are taken: served by a worker lately, or on demand.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached.
        """
        within_s = max(SERVED_LATELY_S, self.settings.live_s)
        return served_models(self.engine, within_s=within_s) | self.settings.on_demand_ids


@contextmanager
def open_resources(settings: Settings, registry: CollectorRegistry) -> Iterator[Resources]:
    """Make the resources; nothing is connected to before it is needed.

    Raises:
        ModelError: the catalogue cannot be read, or lacks a model that a setting names.
    """
    catalogue = read_catalogue(settings)
    engine = make_engine(settings, answer_s=_ANSWER_S)
    storage = Storage(settings.storage_url.get_secret_value())
    doorbell = Doorbell(engine, make_broker(settings), settings)
    remover = Remover(engine, storage)
    probe_threads = ThreadPoolExecutor(_PROBE_THREADS, thread_name_prefix="probe")
    watcher = Watcher(partial(glimpse_jobs, engine), max_watches=settings.max_streams)
    listener = NewsListener(engine, partial(_tell, asyncio.get_running_loop(), watcher))
    try:
        yield Resources(
            settings=settings,
            version=__version__,
            catalogue=catalogue,
            engine=engine,
            storage=storage,
            doorbell=doorbell,
            remover=remover,
            probe_threads=probe_threads,
            upload_slots=UploadSlots(MAX_UPLOADS),
            upload_threads=CapacityLimiter(MAX_UPLOADS),
            measuring_threads=CapacityLimiter(_MEASURING_THREADS),
            watcher=watcher,
            outbound=Outbound.of(settings),
            test_threads=CapacityLimiter(_TEST_THREADS),
            upload_bytes=Counter(
                "longhand_upload_bytes", "Bytes of uploads received.", registry=registry
            ),
            cached_jobs=Counter(
                "longhand_cached_jobs",
                "Jobs answered at once with the transcript of an equal one.",
                registry=registry,
            ),
        )
    finally:
        listener.close()
        doorbell.close()
        remover.close()
        probe_threads.shutdown(wait=False, cancel_futures=True)
        engine.dispose()


def _tell(loop: asyncio.AbstractEventLoop, watcher: Watcher, job_ids: Sequence[UUID]) -> None:
    """Hand news from the listener's thread to the watcher's loop."""
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(watcher.tell, job_ids)


async def _resources(request: Request) -> Resources:
    return cast(Resources, request.app.state.resources)


async def current_tenant() -> str:
    """Return whose jobs the request may see; there is one tenant for now."""
    return DEFAULT_TENANT


# Coroutines, though they wait for nothing: FastAPI calls other functions in a thread.
Provided = Annotated[Resources, Depends(_resources)]
Tenant = Annotated[str, Depends(current_tenant)]
