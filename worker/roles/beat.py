"""The beat worker: ticks and sweeps. No other work delays it."""

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
    worker_ready.connect(lambda **_: start_ticking(app), weak=False)
    try:
        start.consume(entry, runtime.heartbeat, health, "solo")
    finally:
        runtime.close()
