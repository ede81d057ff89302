"""The delivery worker: sends webhook events in threads, most of which wait for receivers."""

from dataclasses import replace

from shared.infra.outbound import Outbound
from shared.infra.settings import get_settings
from shared.store.queues import DELIVER_QUEUE
from worker.process.runtime import make_runtime
from worker.roles import start
from worker.tasks import install


def serve(concurrency: int) -> None:
    settings = get_settings()
    entry = start.entry("deliver", queues=(DELIVER_QUEUE,), slots=concurrency)
    health = start.serve_health(entry, settings)
    start.await_dependencies(settings)
    runtime = make_runtime(settings, entry.id)
    runtime.heartbeat.register(entry)
    install(replace(runtime, outbound=Outbound.of(settings)))
    try:
        start.consume(entry, runtime.heartbeat, health, "--pool=threads")
    finally:
        runtime.close()
