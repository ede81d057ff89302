"""The delivery worker: sends webhook events in threads, most of which wait for receivers."""

from functools import partial

from shared.infra.open_files import allow_open_files
from shared.store.queues import DELIVER_QUEUE
from shared.store.states import StepKind
from worker.roles import start
from worker.steps.deliver import deliver
from worker.steps.run import answer, one_by_one
from worker.tasks import install


def serve(concurrency: int) -> None:
    allow_open_files()
    entry = start.entry("deliver", queues=(DELIVER_QUEUE,), slots=concurrency)
    health, runtime = start.open_runtime(entry)
    install(runtime, partial(answer, work=one_by_one({StepKind.DELIVER: deliver})))
    try:
        start.consume([entry], runtime.heartbeat, health, "threads")
    finally:
        runtime.close()
