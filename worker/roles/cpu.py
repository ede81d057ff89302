"""The CPU worker: prepares and finishes jobs, each step in a child of a prefork pool."""

import logging
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

from celery.signals import worker_ready
from sqlalchemy import Engine

from shared.infra import database
from shared.infra.errors import DatabaseUnavailable
from shared.infra.settings import get_settings
from shared.infra.storage import Storage
from shared.store.queues import CPU_QUEUE, LARGE_QUEUE
from shared.store.states import StepKind
from shared.store.steps import expire_leases
from shared.store.workers import child_id
from worker.process.heartbeat import Heartbeat
from worker.roles import start
from worker.steps.run import one_by_one
from worker.tasks import lead

log = logging.getLogger("worker")


def serve(concurrency: int) -> None:
    # Loaded before the children are forked: once, and not against their memory limit.
    from worker.steps.finish import finish
    from worker.steps.prepare import prepare

    settings = get_settings()
    entry = start.entry("cpu", queues=(CPU_QUEUE, LARGE_QUEUE), slots=concurrency)
    health = start.serve_health(entry, settings)
    start.await_dependencies(settings)
    # The children hold the leases; this process only keeps the registry's entry alive.
    engine = database.make_engine(settings, pool_size=1)
    heartbeat = Heartbeat(engine, settings)
    heartbeat.register(entry)
    # So the children need not parse botocore's description of S3, each for itself.
    Storage(settings.storage_url.get_secret_value())
    lead(entry.id, one_by_one({StepKind.PREPARE: prepare, StepKind.FINISH: finish}))
    worker_ready.connect(partial(_watch_children, engine, entry.id), weak=False)
    try:
        start.consume(entry, heartbeat, health, "prefork")
    finally:
        heartbeat.stop()


def _watch_children(engine: Engine, worker_id: str, sender: Any, **_: object) -> None:
    """Have the leases of a child that dies end at once, rather than run out.

    Celery's pool is told by the kernel that a child has ended, and tells us in the thread of its
    event loop, which must not wait for Postgres.
    """
    pool = sender.pool._pool  # Celery's prefork pool has no other way to say it
    dead: SimpleQueue[int] = SimpleQueue()
    note_down = pool.on_process_down

    def on_process_down(process: Any) -> None:
        note_down(process)
        dead.put(process.pid)

    def expire() -> None:
        while True:
            pid = dead.get()
            try:
                if leases := expire_leases(engine, child_id(worker_id, f"{pid}-")):
                    log.warning("child %d died: %d leases have ended", pid, leases)
            except DatabaseUnavailable as error:
                log.warning("%s: the leases of child %d run out", error, pid)

    pool.on_process_down = on_process_down
    Thread(target=expire, name="children", daemon=True).start()
