"""The beat worker: ticks and sweeps. No other work delays it."""

import logging
from dataclasses import replace
from functools import partial

from celery.signals import worker_ready

from shared.infra.background import Background
from worker.app import SWEEP_QUEUE, app
from worker.roles import start
from worker.tasks import install
from worker.upkeep.beat import start_ticking
from worker.upkeep.retention import tidy


def serve() -> None:
    entry = start.entry("beat", queues=(SWEEP_QUEUE,), slots=1)
    health, runtime = start.open_runtime(entry)
    runtime = replace(runtime, tidier=Background("tidier", partial(tidy, runtime)))
    install(runtime)
    # Celery logs two lines for every tick.
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    worker_ready.connect(lambda **_: start_ticking(app), weak=False)
    try:
        start.consume(entry, runtime.heartbeat, health, "solo")
    finally:
        runtime.close()
