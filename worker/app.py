"""The worker's Celery application, and what beat sends."""

import click
from celery.signals import import_modules, setup_logging
from celery.utils.log import get_multiprocessing_logger

from shared.infra import logs
from shared.infra.settings import get_settings
from shared.queue.broker import make_broker
from worker.flower import secure_flower
from worker.steps.run import KEEP_GOING_S

SWEEP_QUEUE = "sweep"

_settings = get_settings()

app = make_broker(_settings, consumer=True)
app.conf.update(
    imports=("worker.tasks",),
    task_time_limit=max(_settings.prepare_limit_s, _settings.fetch_limit_s) + KEEP_GOING_S,
    beat_schedule={
        "sweep": {
            "task": "sweep",
            "schedule": _settings.sweep_s,
            # A sweep that starts after the next one is due is not needed.
            "options": {"queue": SWEEP_QUEUE, "expires": _settings.sweep_s},
        }
    },
)


def _keep_logging(**_: object) -> None:
    """Keep Celery, which asks here, from configuring the log; its own commands get ours."""
    if not logs.is_configured():
        logs.configure(_settings, "celery")
    get_multiprocessing_logger().propagate = True


def _secure_flower(**_: object) -> None:
    """Secure Celery's own ``flower`` command, once its options are read and before it listens."""
    context = click.get_current_context(silent=True)
    if context is not None and context.command.name == "flower":
        secure_flower(_settings)


setup_logging.connect(_keep_logging)
import_modules.connect(_secure_flower, sender=app)
