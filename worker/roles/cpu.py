"""The CPU worker: prepares and finishes jobs, each step in a child of a prefork pool."""

from shared.infra import database
from shared.infra.settings import get_settings
from shared.store.queues import FINISH_QUEUE, PREPARE_LARGE_QUEUE, PREPARE_QUEUE
from worker.process.heartbeat import Heartbeat
from worker.roles import start
from worker.tasks import lead


def serve(concurrency: int) -> None:
    # Loaded before the children are forked: once, and not against their memory limit.
    import worker.steps.finish
    import worker.steps.prepare  # noqa: F401

    settings = get_settings()
    queues = (PREPARE_QUEUE, PREPARE_LARGE_QUEUE, FINISH_QUEUE)
    entry = start.entry("cpu", queues=queues, slots=concurrency)
    health = start.serve_health(entry, settings)
    start.await_dependencies(settings)
    # The children hold the leases; this process only keeps the registry's entry alive.
    heartbeat = Heartbeat(database.make_engine(settings, pool_size=1), settings)
    heartbeat.register(entry)
    lead(entry.id)
    try:
        start.consume(entry, heartbeat, health, "--pool=prefork")
    finally:
        heartbeat.stop()
