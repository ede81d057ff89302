"""The delivery worker: sends webhook events in threads, most of which wait for receivers."""

from dataclasses import replace

from shared.infra.outbound import Outbound
from shared.infra.settings import get_settings
from shared.store.queues import DELIVER_QUEUE
from shared.store.states import StepKind
from worker.process.runtime import make_runtime
from worker.roles import start
from worker.steps.deliver import deliver
from worker.steps.run import one_by_one
from worker.tasks import install


def serve(concurrency: int) -> None:
    settings = get_settings()
    entry = start.entry("deliver", queues=(DELIVER_QUEUE,), slots=concurrency)
    health = start.serve_health(entry, settings)
    start.await_dependencies(settings)
    runtime = make_runtime(settings, entry.id)
    runtime.heartbeat.register(entry)
    work = one_by_one({StepKind.DELIVER: deliver})
    install(replace(runtime, outbound=Outbound.of(settings)), work)
    try:
        start.consume(entry, runtime.heartbeat, health, "threads")
    finally:
        runtime.close()
