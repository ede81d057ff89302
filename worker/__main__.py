"""``python -m worker ROLE``: start a worker process, or prepare what workers need.

\b
cpu      prepares and finishes jobs in a prefork pool, so that a hostile file costs one child.
deliver  sends webhook events in threads, most of which wait for receivers.
model    infers: one process with preloaded models, and threads that feed their batchers.
diarize  tells speakers apart, in threads that share one preloaded model.
beat     ticks and sweeps; no other work delays it.
flower   serves Flower, Celery's monitor.
migrate  upgrades the database's schema, sets its roles' passwords, makes the bucket, and exits.
fetch    downloads a model's weights into the local cache, and exits.
"""

import logging
import os
from collections.abc import Sequence
from functools import partial

import click

from shared.infra import logs
from shared.infra.errors import LonghandError
from shared.infra.settings import get_settings
from shared.store.queues import DELIVERY_SLOTS

log = logging.getLogger("worker")


class _Roles(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        """Run a role; show errors of ours as one line."""
        try:
            return super().invoke(ctx)
        except LonghandError as error:
            raise click.ClickException(str(error)) from error


def _ids(_context: click.Context, _parameter: click.Parameter, said: str) -> Sequence[str]:
    """Return the ids of a list with commas."""
    ids = [each for part in said.split(",") if (each := part.strip())]
    if not ids:
        raise click.BadParameter("it names no model")
    return ids


_models = click.option(
    "--model",
    "model_ids",
    required=True,
    callback=_ids,
    help="Catalogue id of the model; several have commas between them.",
)


@click.group(cls=_Roles, help=__doc__)
@click.pass_context
def main(context: click.Context) -> None:
    logs.configure(get_settings(), context.invoked_subcommand or "worker")


@main.command(help="Prepare and finish jobs.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=max(2, os.cpu_count() or 1),
    show_default=True,
    help="Pool children: steps done at once.",
)
def cpu(concurrency: int) -> None:
    from worker.roles.cpu import serve

    serve(concurrency)


@main.command(help="Infer chunks with a model, or with several small ones that share a device.")
@_models
def model(model_ids: Sequence[str]) -> None:
    from worker.roles.model import serve

    serve(model_ids)


@main.command(help="Tell speakers apart.")
@click.option(
    "--model", "model_id", default="campplus-seg3", show_default=True, help="Catalogue id."
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=max(1, (os.cpu_count() or 1) // 2),
    show_default=True,
    help="Threads: spans of ten minutes heard at once.",
)
def diarize(model_id: str, concurrency: int) -> None:
    from worker.roles.diarize import serve

    serve(model_id, concurrency)


@main.command(help="Send webhook events.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=DELIVERY_SLOTS,
    show_default=True,
    help="Threads: attempts made at once.",
)
def deliver(concurrency: int) -> None:
    from worker.roles.deliver import serve

    serve(concurrency)


@main.command(help="Tick, and sweep up what died or was lost.")
def beat() -> None:
    from worker.roles.beat import serve

    serve()


@main.command(help="Serve Flower; beyond loopback only with LONGHAND_FLOWER_PASSWORD.")
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=5555, show_default=True)
def flower(address: str, port: int) -> None:
    from worker.app import SWEEP_QUEUE, app
    from worker.flower import serve_flower

    serve_flower(app, address=address, port=port, sweep_queue=SWEEP_QUEUE)


@main.command(help="Upgrade the database's schema and make the bucket.")
def migrate() -> None:
    from shared.infra import schema
    from shared.infra.roles import admit_roles
    from shared.infra.storage import Storage

    settings = get_settings()
    schema.migrate(settings)
    admit_roles(settings)
    Storage(settings.storage_url.get_secret_value()).create_bucket()


@main.command(help="Download models' weights into the local cache.")
@_models
def fetch(model_ids: Sequence[str]) -> None:
    from shared.models.catalogue import load_catalogue
    from shared.models.weights import download

    catalogue = load_catalogue(get_settings().catalogue)
    for model_id in model_ids:
        path = download(
            catalogue.diarizers.get(model_id) or catalogue.get(model_id),
            partial(log.info, "%s: %d of %d bytes", model_id),
        )
        log.info("%s is in %s", model_id, path)


if __name__ == "__main__":
    main()
