"""What all roles do: announce the worker, wait for Postgres, consume messages."""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import click
from celery.signals import worker_ready
from kombu.asynchronous.hub import Hub

from shared import __version__
from shared.infra import database
from shared.infra.errors import DatabaseUnavailable, DatabaseUnfit
from shared.infra.settings import Settings, get_settings
from shared.models.catalogue import load_catalogue
from shared.store.workers import WorkerEntry
from worker.app import app
from worker.process.health import Health
from worker.process.health import serve_health as serve
from worker.process.heartbeat import Heartbeat
from worker.process.runtime import worker_id

log = logging.getLogger("worker")

_LOOK_S = 1.0
"""How often a worker that waits for its database looks again."""


def entry(
    role: str,
    *,
    queues: tuple[str, ...],
    slots: int,
    model: str | None = None,
    device: str = "cpu",
) -> WorkerEntry:
    """Describe this worker as it starts."""
    return WorkerEntry(
        id=worker_id(role, model),
        role=role,
        model=model,
        queues=queues,
        slots=slots,
        state="loading",
        device=device,
        dtype=None,
        version=f"longhand {__version__}",
        load_s=None,
        warm_up_s=None,
    )


def serve_health(entry: WorkerEntry, settings: Settings) -> Health:
    """Answer for this worker from now on, where the settings say; only models take long to load."""
    health = Health(entry.role, entry.model, has_started=entry.model is None)
    host, port = settings.health_host, settings.health_port
    if port:
        try:
            serve(health, host, port)
        except OSError as error:
            raise click.ClickException(
                f"cannot serve health on {host}:{port}: {error.strerror}"
            ) from error
    return health


def await_dependencies(settings: Settings) -> None:
    """Check the catalogue, then wait until the database is there and migrated.

    So workers may be started before Postgres is, and before the migration.

    Raises:
        ModelError: the catalogue is missing or wrong.
        DatabaseUnfit: the database cannot be used, however long one waits.
    """
    load_catalogue(settings.catalogue)
    engine = database.make_engine(settings, pool_size=1)
    said = ""
    while True:
        try:
            database.check(engine)
            break
        except DatabaseUnfit:
            raise
        except DatabaseUnavailable as error:
            if said != str(error):
                said = str(error)
                log.warning("the worker waits: %s", said)
        time.sleep(_LOOK_S)
    engine.dispose()


def consume(entry: WorkerEntry, heartbeat: Heartbeat, health: Health, pool: str) -> None:
    """Run Celery's worker until it is told to stop; it is ready once it takes messages."""

    def become_ready(**_: object) -> None:
        health.takes_messages = True
        heartbeat.register(replace(entry, state="ready"))

    health.failing = lambda: heartbeat.failing
    worker_ready.connect(become_ready, weak=False)
    if pool == "threads":
        worker_ready.connect(
            lambda sender, **_: tell_of_ends(sender.pool.executor, sender.hub), weak=False
        )
    # Not by ``app.worker_main``: Celery's command line imports Flower and Tornado.
    app.Worker(
        hostname=entry.id,
        queues=entry.queues,
        pool=pool,
        concurrency=entry.slots,
        loglevel=get_settings().log_level,
        # Workers need not know of each other: Postgres does.
        without_gossip=True,
        without_mingle=True,
    ).start()


def tell_of_ends(executor: ThreadPoolExecutor, hub: Hub) -> None:
    """Have the event loop go round whenever a task has ended in the pool's threads.

    While all threads are busy the loop asks for no message (``worker_disable_prefetch``). Celery
    does not tell it that one is free again, so it would notice up to a second late.
    """
    submit = executor.submit

    def submit_and_tell(*arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = submit(*arguments, **options)
        future.add_done_callback(lambda _: hub.call_soon(_nothing))  # type: ignore[no-untyped-call]
        return future

    executor.submit = submit_and_tell  # type: ignore[method-assign]


def _nothing() -> None:
    """All that the loop has to do when it goes round."""
