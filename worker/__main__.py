"""``python -m worker ROLE``: start a worker process, or make ready what workers need.

\b
cpu      prepares and finishes: a prefork pool, so that a hostile file costs one child.
model    infers: one process, one preloaded model, threads that feed its batcher.
beat     ticks and sweeps: Celery's beat and who answers it, apart from work that takes long.
migrate  brings the database's schema up to date and makes the bucket; then exits.
fetch    downloads a model's weights into the local cache; then exits.
"""

import logging
import os
import sys
import time

import click
from celery.signals import worker_ready

from shared import __version__, database
from shared.catalogue import load_catalogue
from shared.errors import LonghandError
from shared.settings import get_settings
from shared.steps import FINISH_QUEUE, PREPARE_QUEUE, model_queue
from shared.storage import Storage
from shared.workers import WorkerEntry
from worker.app import SWEEP_QUEUE, app
from worker.heartbeat import Heartbeat
from worker.runtime import make_runtime, worker_id
from worker.tasks import install
from worker.ticking import start_ticking

log = logging.getLogger("worker")


@click.group(help=__doc__)
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
    queues = (PREPARE_QUEUE, FINISH_QUEUE)
    entry = _entry("cpu", queues=queues, slots=concurrency)
    # The children hold the leases; this process only keeps the registry's entry alive.
    heartbeat = Heartbeat(database.make_engine(settings, pool_size=1), settings)
    try:
        _consume(entry, heartbeat, "--pool=prefork")
    finally:
        heartbeat.stop()


@main.command(help="Infer chunks with one model.")
@click.option("--model", "model_id", required=True, help="Catalogue id of the model to load.")
def model(model_id: str) -> None:
    from worker.batching import Batcher
    from worker.engines import load_engine

    settings = get_settings()
    begun = time.monotonic()
    try:
        engine = load_engine(load_catalogue(settings.catalogue).get(model_id))
    except LonghandError as error:
        raise click.ClickException(str(error)) from error
    load_s = time.monotonic() - begun
    log.info("loaded %s (%s) on %s in %.2f s", model_id, engine.version, engine.device, load_s)
    # Twice the batch: while the device works on one batch, the next one's audio is being fetched.
    entry = _entry(
        "model",
        queues=(model_queue(model_id),),
        slots=2 * engine.max_batch,
        model=model_id,
        device=engine.device,
        engine_version=engine.version,
        load_s=load_s,
    )
    batcher = Batcher(engine, max_batch=engine.max_batch, max_wait_ms=settings.batch_wait_ms)
    runtime = make_runtime(settings, entry.id, batcher=batcher)
    install(runtime)
    try:
        _consume(entry, runtime.heartbeat, "--pool=threads")
    finally:
        runtime.close()


@main.command(help="Tick, and sweep up what died or was lost.")
def beat() -> None:
    settings = get_settings()
    entry = _entry("beat", queues=(SWEEP_QUEUE,), slots=1)
    runtime = make_runtime(settings, entry.id)
    install(runtime)
    # Celery's two lines on every tick would drown the sweeps' own.
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    worker_ready.connect(lambda **_: start_ticking(app), weak=False)
    try:
        _consume(entry, runtime.heartbeat, "--pool=solo")
    finally:
        runtime.close()


@main.command(help="Bring the database up to date and make the bucket.")
def migrate() -> None:
    settings = get_settings()
    try:
        database.migrate(settings)
        Storage(settings.storage_url.get_secret_value()).create_bucket()
    except LonghandError as error:
        raise click.ClickException(str(error)) from error


@main.command(help="Download a model's weights into the local cache.")
@click.option("--model", "model_id", required=True, help="Catalogue id of the model.")
def fetch(model_id: str) -> None:
    from worker.engines.weights import download

    try:
        path = download(
            load_catalogue(get_settings().catalogue).get(model_id),
            lambda done, total: log.info("%s: %d of %d bytes", model_id, done, total),
        )
    except LonghandError as error:
        raise click.ClickException(str(error)) from error
    log.info("%s is in %s", model_id, path)


def _entry(
    role: str,
    *,
    queues: tuple[str, ...],
    slots: int,
    model: str | None = None,
    device: str = "cpu",
    engine_version: str | None = None,
    load_s: float | None = None,
) -> WorkerEntry:
    return WorkerEntry(
        id=worker_id(role),
        role=role,
        model=model,
        queues=queues,
        slots=slots,
        device=device,
        version=engine_version or f"longhand {__version__}",
        load_s=load_s,
    )


def _consume(entry: WorkerEntry, heartbeat: Heartbeat, *pool: str) -> None:
    """Run Celery's worker until it is told to stop; register it once it takes messages."""

    def register(**_: object) -> None:
        heartbeat.register(entry)

    worker_ready.connect(register, weak=False)
    app.worker_main(
        [
            "worker",
            f"--hostname={entry.id.replace(':', '-')}",
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
