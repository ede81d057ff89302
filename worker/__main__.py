"""``python -m worker ROLE``: start a worker process, or make ready what workers need.

\b
cpu      prepares and finishes: a prefork pool, so that a hostile file costs one child.
deliver  sends webhook events: threads, most of which wait for receivers.
model    infers: one process, one preloaded model, threads that feed its batcher.
beat     ticks and sweeps: Celery's beat and who answers it, apart from work that takes long.
flower   serves Flower, Celery's monitor.
migrate  brings the database's schema up to date and makes the bucket; then exits.
fetch    downloads a model's weights into the local cache; then exits.
"""

import logging
import os
import sys
import time
from dataclasses import replace
from functools import partial

import click
from celery.signals import worker_ready

from shared import __version__, database
from shared.catalogue import load_catalogue
from shared.errors import DatabaseUnavailable, DatabaseUnfit, LonghandError
from shared.outbound import Outbound
from shared.ringing import Bell
from shared.settings import Settings, get_settings
from shared.steps import (
    DELIVER_QUEUE,
    FINISH_QUEUE,
    PREPARE_LARGE_QUEUE,
    PREPARE_QUEUE,
    model_queue,
)
from shared.storage import Storage
from shared.workers import WorkerEntry
from worker import metrics
from worker.app import SWEEP_QUEUE, app
from worker.health import Health, serve_health
from worker.heartbeat import Heartbeat
from worker.monitor import LOOPBACK, serve_flower
from worker.runtime import make_runtime, worker_id
from worker.tasks import install, lead
from worker.ticking import start_ticking
from worker.tidying import tidy

log = logging.getLogger("worker")

_LOOK_S = 1.0
"""How often a worker that waits for its database looks again."""


class _Roles(click.Group):
    """What stands in a worker's way is said in one sentence."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a role."""
        try:
            return super().invoke(ctx)
        except LonghandError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Roles, help=__doc__)
def main() -> None:
    logging.basicConfig(
        level=get_settings().log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


@main.command(help="Prepare and finish jobs.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=max(2, os.cpu_count() or 1),
    show_default=True,
    help="Pool children: steps done at once.",
)
def cpu(concurrency: int) -> None:
    # Loaded before the children are forked: once, and not against their memory limit.
    import worker.finishing
    import worker.preparing  # noqa: F401

    settings = get_settings()
    queues = (PREPARE_QUEUE, PREPARE_LARGE_QUEUE, FINISH_QUEUE)
    entry = _entry("cpu", queues=queues, slots=concurrency)
    health = _serve_health(entry, settings)
    _await_dependencies(settings)
    # The children hold the leases; this process only keeps the registry's entry alive.
    heartbeat = Heartbeat(database.make_engine(settings, pool_size=1), settings)
    heartbeat.register(entry)
    lead(entry.id)
    try:
        _consume(entry, heartbeat, health, "--pool=prefork")
    finally:
        heartbeat.stop()


@main.command(help="Infer chunks with one model.")
@click.option("--model", "model_id", required=True, help="Catalogue id of the model to load.")
def model(model_id: str) -> None:
    from worker.batching import Batcher
    from worker.loading import load

    settings = get_settings()
    catalogue_entry = load_catalogue(settings.catalogue).get(model_id)
    # How many it takes at once is known once it is loaded.
    entry = _entry(
        "model",
        queues=(model_queue(model_id),),
        slots=0,
        model=model_id,
        device=settings.device,
    )
    health = _serve_health(entry, settings)
    _await_dependencies(settings)
    runtime = make_runtime(settings, entry.id)
    runtime.heartbeat.register(entry)
    try:
        loaded = load(catalogue_entry, settings)
        engine = loaded.engine
        log.info(
            "loaded %s: %s on %s, dtype %s, load %.2f s, warm-up %.2f s, max_batch %d",
            *(model_id, engine.version, engine.device, engine.dtype),
            *(loaded.load_s, loaded.warm_up_s, engine.max_batch),
        )
        metrics.LOAD_S.set(loaded.load_s)
        metrics.WARM_UP_S.set(loaded.warm_up_s)
        batcher = Batcher(engine, max_batch=engine.max_batch, max_wait_ms=settings.batch_wait_ms)
        runtime = replace(runtime, batcher=batcher)
        install(runtime)
        health.has_started = True
        entry = replace(
            entry,
            # Twice the batch: while the device works on one, the next one's audio is fetched.
            slots=2 * engine.max_batch,
            device=engine.device,
            dtype=engine.dtype,
            version=engine.version,
            load_s=loaded.load_s,
            warm_up_s=loaded.warm_up_s,
        )
        _consume(entry, runtime.heartbeat, health, "--pool=threads")
    finally:
        runtime.close()


@main.command(help="Send webhook events.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Threads: attempts made at once.",
)
def deliver(concurrency: int) -> None:
    settings = get_settings()
    entry = _entry("deliver", queues=(DELIVER_QUEUE,), slots=concurrency)
    health = _serve_health(entry, settings)
    _await_dependencies(settings)
    runtime = make_runtime(settings, entry.id)
    runtime.heartbeat.register(entry)
    install(replace(runtime, outbound=Outbound.of(settings)))
    try:
        _consume(entry, runtime.heartbeat, health, "--pool=threads")
    finally:
        runtime.close()


@main.command(help="Tick, and sweep up what died or was lost.")
def beat() -> None:
    settings = get_settings()
    entry = _entry("beat", queues=(SWEEP_QUEUE,), slots=1)
    health = _serve_health(entry, settings)
    _await_dependencies(settings)
    runtime = make_runtime(settings, entry.id)
    runtime.heartbeat.register(entry)
    runtime = replace(runtime, tidier=Bell("tidier", partial(tidy, runtime)))
    install(runtime)
    # Celery's two lines on every tick would drown the sweeps' own.
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    worker_ready.connect(lambda **_: start_ticking(app), weak=False)
    try:
        _consume(entry, runtime.heartbeat, health, "--pool=solo")
    finally:
        runtime.close()


@main.command(help="Serve Flower; beyond loopback only with LONGHAND_FLOWER_PASSWORD.")
@click.option("--address", default=LOOPBACK, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=5555, show_default=True)
def flower(address: str, port: int) -> None:
    serve_flower(app, address=address, port=port, sweep_queue=SWEEP_QUEUE)


@main.command(help="Bring the database up to date and make the bucket.")
def migrate() -> None:
    settings = get_settings()
    database.migrate(settings)
    Storage(settings.storage_url.get_secret_value()).create_bucket()


@main.command(help="Download a model's weights into the local cache.")
@click.option("--model", "model_id", required=True, help="Catalogue id of the model.")
def fetch(model_id: str) -> None:
    from worker.engines.weights import download

    path = download(
        load_catalogue(get_settings().catalogue).get(model_id),
        lambda done, total: log.info("%s: %d of %d bytes", model_id, done, total),
    )
    log.info("%s is in %s", model_id, path)


def _entry(
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


def _serve_health(entry: WorkerEntry, settings: Settings) -> Health:
    """Answer for this worker from now on, where the settings say; only models take long to load."""
    health = Health(entry.role, entry.model, has_started=entry.model is None)
    host, port = settings.health_host, settings.health_port
    if port:
        try:
            serve_health(health, host, port)
        except OSError as error:
            raise click.ClickException(
                f"cannot serve health on {host}:{port}: {error.strerror}"
            ) from error
    return health


def _await_dependencies(settings: Settings) -> None:
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


def _consume(entry: WorkerEntry, heartbeat: Heartbeat, health: Health, *pool: str) -> None:
    """Run Celery's worker until it is told to stop; it is ready once it takes messages."""

    def become_ready(**_: object) -> None:
        health.takes_messages = True
        heartbeat.register(replace(entry, state="ready"))

    health.failing = lambda: heartbeat.failing
    worker_ready.connect(become_ready, weak=False)
    app.worker_main(
        [
            "worker",
            f"--hostname={entry.id}",
            f"--queues={','.join(entry.queues)}",
            f"--concurrency={entry.slots}",
            f"--loglevel={get_settings().log_level}",
            # Workers need not know of each other: Postgres does.
            "--without-gossip",
            "--without-mingle",
            *pool,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
