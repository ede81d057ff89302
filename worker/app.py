"""The worker's Celery application, and what beat sends."""

from shared.broker import make_broker
from shared.settings import get_settings

SWEEP_QUEUE = "sweep"

_settings = get_settings()

app = make_broker(_settings, consumer=True)
app.conf.update(
    imports=("worker.tasks",),
    task_time_limit=_settings.prepare_limit_s,
    beat_schedule={
        "sweep": {
            "task": "sweep",
            "schedule": _settings.sweep_s,
            # A sweep that could not start before the next one is due has nothing left to do.
            "options": {"queue": SWEEP_QUEUE, "expires": _settings.sweep_s},
        }
    },
)
