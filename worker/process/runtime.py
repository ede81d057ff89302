"""What a worker process holds while it runs."""

import os
import socket
import uuid
from dataclasses import dataclass

from celery import Celery
from sqlalchemy import Engine

from shared.infra.background import Bell
from shared.infra.database import make_engine
from shared.infra.outbound import Outbound
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.models.catalogue import Catalogue, load_catalogue
from shared.queue.broker import make_broker
from shared.queue.dispatch import Doorbell
from worker.batching.batcher import Batcher
from worker.process.bugs import Record
from worker.process.heartbeat import Heartbeat


@dataclass(frozen=True, slots=True)
class Runtime:
    """Connections and threads of one process; never carried over a fork."""

    settings: Settings
    owner: str
    database: Engine
    broker: Celery
    storage: Storage
    catalogue: Catalogue
    doorbell: Doorbell
    heartbeat: Heartbeat
    record: Record
    batcher: Batcher | None = None
    """Only in a model worker, once its model is loaded."""
    tidier: Bell | None = None
    """Only in the worker that sweeps."""
    outbound: Outbound | None = None
    """Only in a delivery worker."""

    def close(self) -> None:
        """Stop the threads and leave the registry."""
        self.doorbell.close()
        self.heartbeat.stop()
        if self.batcher is not None:
            self.batcher.close()
        if self.tidier is not None:
            self.tidier.close()
        self.database.dispose()


def worker_id(role: str, model: str | None = None) -> str:
    """Return the worker's name, ROLE[-MODEL]@HOST-PID-RANDOM: for registry, Celery and logs alike.

    No other process has had it: a reused pid must not look like its predecessor.
    """
    what = role if model is None else f"{role}-{model}"
    return f"{what}@{socket.gethostname()}-{unique_pid()}"


def unique_pid() -> str:
    """Return PID-RANDOM of this process."""
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


def make_runtime(settings: Settings, owner: str) -> Runtime:
    """Open what a worker process needs."""
    # Enough for every thread of the largest batch to commit at once without queueing for long.
    database = make_engine(settings, pool_size=8)
    broker = make_broker(settings)
    return Runtime(
        settings=settings,
        owner=owner,
        database=database,
        broker=broker,
        storage=Storage(settings.storage_url.get_secret_value()),
        catalogue=load_catalogue(settings.catalogue),
        doorbell=Doorbell(database, broker, settings),
        heartbeat=Heartbeat(database, settings),
        record=Record(database, settings, owner),
    )
