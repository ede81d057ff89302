"""Celery's beat, quiet through outages, and never missing without its worker noticing."""

import logging
import os
import signal
import threading
import time

from celery.beat import PersistentScheduler, SchedulingError
from celery.worker.consumer import Consumer

from worker import draining

log = logging.getLogger(__name__)

PARENT_POLL_S = 1.0


class Ticker(PersistentScheduler):  # type: ignore[misc]
    """Sends what is due; a tick that cannot be sent costs one line, not Celery's 100."""

    def apply_entry(self, entry: object, producer: object = None) -> None:
        """Send one entry's message."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except SchedulingError as error:
            log.warning("no tick: %s", error)


def end_without_beat(consumer: Consumer) -> None:
    """Stop this worker when its embedded beat process dies: Celery itself would not notice."""
    beat = consumer.controller.beat

    def watch() -> None:
        beat.join()
        if not draining.has_begun():
            log.error("the beat process died: the worker stops, to be started anew")
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="beat-watch", daemon=True).start()


def end_without_worker(worker_pid: int) -> None:
    """In the embedded beat process: end it with its worker, which if killed cannot do so itself."""

    def watch() -> None:
        while os.getppid() == worker_pid:
            time.sleep(PARENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="worker-watch", daemon=True).start()
