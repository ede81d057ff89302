"""What all roles do: announce the worker, wait for Postgres, take messages."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import click
from celery.signals import worker_ready
from celery.worker.consumer import Consumer
from kombu.asynchronous.hub import Hub

from shared import __version__
from shared.infra import database, schema
from shared.infra.errors import DatabaseUnavailable, DatabaseUnfit
from shared.infra.settings import Settings, get_settings
from shared.models.catalogue import load_catalogue
from shared.store.workers import WorkerEntry
from worker.app import app
from worker.process import drain, watched
from worker.process import health as health_server
from worker.process.health import Health
from worker.process.heartbeat import Heartbeat
from worker.process.runtime import Runtime, make_runtime, worker_id
from worker.roles.intake import Intake, take_in_turn

log = logging.getLogger("worker")

_LOOK_S = 1.0
"""How often a worker tries its database while it waits for it."""


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


def open_runtime(*entries: WorkerEntry) -> tuple[Health, Runtime]:
    """Serve health, wait for the database, open connections, and register this process's workers.

    Raises: what ``await_dependencies`` does.
    """
    settings = get_settings()
    health = serve_health(*entries)
    await_dependencies(settings)
    runtime = make_runtime(settings, process_id(entries))
    for entry in entries:
        runtime.heartbeat.register(entry)
    return health, runtime


def process_id(entries: Sequence[WorkerEntry]) -> str:
    """Return the name of a process for Celery and traces: its worker's, or one of all its models'.

    The latter is ROLE-MODEL+MODEL@HOST-PID-RANDOM.
    """
    first, *others = entries
    if not others:
        return first.id
    models = "+".join(entry.model or "" for entry in entries)
    return f"{first.role}-{models}@{first.id.partition('@')[2]}"


def serve_health(*entries: WorkerEntry) -> Health:
    """Serve the process's health, if the settings name a port. Only models take time to start."""
    settings = get_settings()
    models = [entry.model for entry in entries if entry.model is not None]
    health = Health(entries[0].role, ",".join(models) or None, has_started=not models)
    host, port = settings.health_host, settings.health_port
    if port:
        try:
            health_server.serve_health(health, host, port)
        except OSError as error:
            raise click.ClickException(
                f"cannot serve health on {host}:{port}: {error.strerror}"
            ) from error
    return health


def await_dependencies(settings: Settings) -> None:
    """Check the catalogue, then wait until the database can be reached and is migrated.

    So workers may be started before Postgres and before the migration.

    Raises:
        ModelError: the catalogue is missing or wrong.
        DatabaseUnfit: the database cannot be used, and waiting would not help.
    """
    load_catalogue(settings.catalogue)
    engine = database.make_engine(settings, pool_size=1)
    said = ""
    while True:
        try:
            schema.check(engine)
            break
        except DatabaseUnfit:
            raise
        except DatabaseUnavailable as error:
            if said != str(error):
                said = str(error)
                log.warning("the worker waits: %s", said)
        time.sleep(_LOOK_S)
    engine.dispose()


def consume(
    entries: Sequence[WorkerEntry], heartbeat: Heartbeat, health: Health, pool: str
) -> None:
    """Run Celery's worker with this pool for these workers until it is told to stop."""
    queues = [queue for entry in entries for queue in entry.queues]
    slots = {queue: entry.slots for entry in entries for queue in entry.queues}

    def become_ready(sender: Consumer, **_: object) -> None:
        health.takes_messages = True
        # One worker alone has all the pool's threads or children.
        heartbeat.on_drained = Intake(sender, slots if len(entries) > 1 else {}).drain
        for entry in entries:
            state = "ready" if entry.state == "loading" else entry.state
            heartbeat.register(replace(entry, state=state))

    # Celery logs two lines for every message, and no message says what there is to do.
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # The worker may have been forked beside others, with which it shares neither.
    drain.share(queues)
    watched.share()
    health.failing = lambda: heartbeat.failing
    worker_ready.connect(become_ready, weak=False)
    if pool == "threads":
        worker_ready.connect(
            lambda sender, **_: tell_of_ends(sender.pool.executor, sender.hub), weak=False
        )
    if len(entries) > 1:
        take_in_turn(app)
    # Not by ``app.worker_main``: Celery's command line imports Flower and Tornado.
    app.Worker(
        hostname=process_id(entries),
        queues=queues,
        pool=pool,
        concurrency=sum(entry.slots for entry in entries),
        loglevel=get_settings().log_level,
        # Workers need not know of each other: Postgres does.
        without_gossip=True,
        without_mingle=True,
    ).start()


def tell_of_ends(executor: ThreadPoolExecutor, hub: Hub) -> None:
    """Wake the event loop whenever a task has ended in the pool's threads.

    While all threads are busy the loop asks for no message (``worker_disable_prefetch``). Celery
    does not wake it when a thread is free again, so it would notice up to a second later.
    """
    submit = executor.submit

    def submit_and_tell(*arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = submit(*arguments, **options)
        future.add_done_callback(lambda _: hub.call_soon(_nothing))  # type: ignore[no-untyped-call]
        return future

    executor.submit = submit_and_tell  # type: ignore[method-assign]


def _nothing() -> None:
    """What the loop is woken for."""
