"""What a worker process holds while it runs."""

import os
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery import Celery
from sqlalchemy import Engine

from shared.infra import tracing
from shared.infra.background import Background
from shared.infra.database import make_engine
from shared.infra.decoder_server import DecoderServer, decoder_server
from shared.infra.outbound import Outbound
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.models.catalogue import Catalogue, load_catalogue
from shared.queue.broker import make_broker
from shared.queue.wakeups import Wakeups
from shared.store.wakeups import connect_wakeups
from worker.process.bugs import Record
from worker.process.heartbeat import Heartbeat
from worker.process.watched import Watched

if TYPE_CHECKING:  # it imports numpy, which beat and the delivery worker do without
    from worker.batching.batcher import Batcher

_READERS = 16
"""Chunks read from the object store at once."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """Connections and threads of one process; never carried over a fork."""

    settings: Settings
    owner: str
    database: Engine
    broker: Celery
    storage: Storage
    catalogue: Catalogue
    wakeups: Wakeups
    heartbeat: Heartbeat
    record: Record
    watched: Watched
    decoders: DecoderServer
    """Decodes media elsewhere; a process that is forked shares it with the one that started it."""
    readers: ThreadPoolExecutor
    """For reading chunks side by side; fewer than the object store has connections."""
    outbound: Outbound
    """To URLs that clients name."""
    batcher: "Batcher | None" = None
    """Only in a model worker, for what it claims while its model is loaded."""
    tidier: Background | None = None
    """Only in the worker that sweeps."""

    def close(self) -> None:
        """Stop the threads and leave the registry."""
        self.wakeups.close()
        self.heartbeat.stop()
        if self.tidier is not None:
            self.tidier.close()
        self.readers.shutdown(wait=False)
        self.database.dispose()
        tracing.stop()

    def gives_way(self) -> bool:
        """Return whether the model in use is to be unloaded once what was claimed is done."""
        return self.batcher is not None and self.batcher.gives_way

    def room(self) -> int:
        """Return how many steps to claim at once: 1, or as many chunks as the next batch takes."""
        if self.batcher is None:
            return 1
        return max(1, min(self.batcher.room(), self.batcher.batch_size))


def worker_id(role: str, model: str | None = None) -> str:
    """Return a worker's name, ROLE[-MODEL]@HOST-PID-RANDOM, for registry, Celery and logs.

    It is unique even if the system reuses a pid.
    """
    what = role if model is None else f"{role}-{model}"
    return f"{what}@{socket.gethostname()}-{unique_pid()}"


def unique_pid() -> str:
    """Return PID-RANDOM of this process."""
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


def make_runtime(settings: Settings, owner: str) -> Runtime:
    """Open what a worker process needs, and trace it from now on."""
    tracing.start(owner.partition("@")[0].partition("-")[0], owner)
    database = make_engine(settings, pool_size=8, sees_all=True)
    broker = make_broker(settings)
    wakeups = Wakeups(database, broker, settings)
    connect_wakeups(database, wakeups.ring)
    return Runtime(
        settings=settings,
        owner=owner,
        database=database,
        broker=broker,
        storage=Storage(settings.storage_url.get_secret_value()),
        catalogue=load_catalogue(settings.catalogue),
        wakeups=wakeups,
        heartbeat=Heartbeat(database, settings),
        record=Record(database, settings, owner),
        watched=Watched(broker, owner),
        decoders=decoder_server(),
        outbound=Outbound.of(settings),
        readers=ThreadPoolExecutor(_READERS, thread_name_prefix="reader"),
    )
