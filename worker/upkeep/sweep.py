"""The sweep: requeues steps of dead workers, and wakes workers for what waits."""

import logging

from shared.infra.errors import DatabaseUnavailable
from shared.store.jobs.calls import cancel_unwanted
from shared.store.jobs.unserved import fail_unserved, give_up_speakers
from shared.store.steps import reap
from shared.store.workers import forget_dead_workers
from worker.process.runtime import Runtime

log = logging.getLogger(__name__)


def sweep(runtime: Runtime) -> None:
    """Requeue expired leases, end jobs that waited too long or that nobody wants, wake workers.

    ``tidy`` is started too.

    It is safe at any time, any number of times, and in several processes at once.
    """
    database, settings = runtime.database, runtime.settings
    try:
        reaped = reap(database)
        unserved = fail_unserved(database, wait_s=settings.worker_wait_s, live_s=settings.live_s)
        speakerless = give_up_speakers(
            database, wait_s=settings.speakers_wait_s, live_s=settings.live_s
        )
        unwanted = cancel_unwanted(database, max_attempts=settings.max_attempts)
        forgotten = forget_dead_workers(database, silent_s=10 * settings.lease_s)
        runtime.wakeups.top_up()
    except DatabaseUnavailable as error:
        log.warning("%s: no sweep", error)
        return
    if runtime.tidier is not None:
        runtime.tidier.ring()
    if reaped or forgotten or unserved or speakerless or unwanted:
        log.info(
            "swept: %d leases, %d workers, %d jobs without a worker, %d without one for their "
            "speakers, %d without a client",
            *(reaped, forgotten, unserved, speakerless, unwanted),
        )
