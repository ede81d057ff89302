"""The CPU worker: fetches, prepares and finishes jobs, each step in a child of a prefork pool."""

import logging
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

import billiard.pool
from celery.signals import worker_ready
from sqlalchemy import Engine

from shared.infra import database
from shared.infra.decoder_server import DecoderServer, NoDecoder, decoder_server
from shared.infra.errors import DatabaseUnavailable
from shared.infra.settings import get_settings
from shared.infra.storage import Storage
from shared.store.queues import CPU_QUEUE, FETCH_QUEUE, LARGE_QUEUE, LISTEN_QUEUE
from shared.store.states import StepKind
from shared.store.steps import expire_leases
from shared.store.workers import child_id
from worker.process.heartbeat import Heartbeat
from worker.roles import start
from worker.steps.run import Handler, answer, one_by_one
from worker.tasks import lead

log = logging.getLogger("worker")

# A child that ends waits until its parent has read all its results, in 300 rounds of 0.1 s. Now and
# then the parent misses one when it stops, and nobody needs them.
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 10


def serve(concurrency: int) -> None:
    # Imported before the children are forked, so that their memory limit does not count it.
    from worker.steps.fetch import fetch
    from worker.steps.finish import finish
    from worker.steps.listen import listen
    from worker.steps.prepare import prepare

    settings = get_settings()
    queues = CPU_QUEUE, LARGE_QUEUE, FETCH_QUEUE, LISTEN_QUEUE
    entry = start.entry("cpu", queues=queues, slots=concurrency)
    # Children of the pool will share it.
    decoders = decoder_server()
    decoders.start()
    health = start.serve_health(entry)
    start.await_dependencies(settings)
    # The children hold the leases. This process only keeps the entry in the registry.
    engine = database.make_engine(settings, pool_size=1)
    heartbeat = Heartbeat(engine, settings)
    heartbeat.register(entry)
    Thread(target=_tell_sandbox, args=(decoders, heartbeat), name="sandbox", daemon=True).start()
    # It has botocore parse its description of S3, which the children would do one by one.
    Storage(settings.storage_url.get_secret_value())
    handlers: dict[StepKind, Handler] = {
        StepKind.FETCH: fetch,
        StepKind.PREPARE: prepare,
        StepKind.FINISH: finish,
        StepKind.LISTEN: listen,
    }
    lead(entry.id, partial(answer, work=one_by_one(handlers)))
    worker_ready.connect(partial(_watch_children, engine, entry.id), weak=False)
    try:
        start.consume([entry], heartbeat, health, "prefork")
    finally:
        heartbeat.stop()
        decoders.close()


def _tell_sandbox(decoders: DecoderServer, heartbeat: Heartbeat) -> None:
    """Tell, once the server of decoders has started, what confines them."""
    try:
        sandbox = decoders.sandbox()
    except NoDecoder as error:
        log.critical("no media can be decoded: %s", error)
    else:
        heartbeat.note_sandbox({"holds": sandbox.holds, "lacks": dict(sandbox.lacks)})


def _watch_children(engine: Engine, worker_id: str, sender: Any, **_: object) -> None:
    """End the leases of a child that dies at once; they would run out much later.

    Celery's pool learns of a child's death in the thread of its event loop, which must not wait for
    Postgres.
    """
    pool = sender.pool._pool  # Celery has no signal for it
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
