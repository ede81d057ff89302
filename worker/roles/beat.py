"""The beat worker: ticks and sweeps. No other work delays it."""

from dataclasses import replace

import prometheus_client
from celery.signals import worker_ready

from shared.infra.background import Background
from worker.app import SWEEP_QUEUE, app
from worker.roles import start
from worker.tasks import install
from worker.upkeep.beat import start_ticking
from worker.upkeep.retention import tidy
from worker.upkeep.tenants import TenantMetrics
from worker.upkeep.uploads import UploadUpkeep


def serve() -> None:
    entry = start.entry("beat", queues=(SWEEP_QUEUE,), slots=1)
    health, runtime = start.open_runtime(entry)
    prometheus_client.REGISTRY.register(TenantMetrics(runtime.database))
    uploads = UploadUpkeep(runtime)

    def tidy_all() -> None:
        uploads()  # before the removal of objects, of which it makes some due
        tidy(runtime)

    runtime = replace(runtime, tidier=Background("tidier", tidy_all))
    install(runtime)
    worker_ready.connect(lambda **_: start_ticking(app), weak=False)
    try:
        start.consume([entry], runtime.heartbeat, health, "solo")
    finally:
        runtime.close()
