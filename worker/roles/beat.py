"""The beat worker: ticks and sweeps, apart from work that takes long."""

import logging
from dataclasses import replace
from functools import partial

from celery.signals import worker_ready

from shared.infra.background import Background
from shared.infra.settings import get_settings
from worker.app import SWEEP_QUEUE, app
from worker.process.runtime import make_runtime
from worker.roles import start
from worker.tasks import install
from worker.upkeep.beat import start_ticking
from worker.upkeep.retention import tidy


def serve() -> None:
    settings = get_settings()
    entry = start.entry("beat", queues=(SWEEP_QUEUE,), slots=1)
    health = start.serve_health(entry, settings)
    start.await_dependencies(settings)
    runtime = make_runtime(settings, entry.id)
    runtime.heartbeat.register(entry)
    runtime = replace(runtime, tidier=Background("tidier", partial(tidy, runtime)))
    install(runtime)
    # Celery's two lines on every tick would drown the sweeps' own.
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    worker_ready.connect(lambda **_: start_ticking(app), weak=False)
    try:
        start.consume(entry, runtime.heartbeat, health, "solo")
    finally:
        runtime.close()
