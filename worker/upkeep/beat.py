"""Celery's beat, as a thread of the worker that takes its ticks.

As a process of its own, it could outlive the worker or die unnoticed.
"""

import logging
import os
import signal
import threading
from typing import Any

from celery import Celery
from celery.beat import Scheduler, SchedulingError, Service

from worker.process import drain

log = logging.getLogger(__name__)


class Ticker(Scheduler):  # type: ignore[misc]
    """Sends due ticks; one that cannot be sent costs one line in the log, not Celery's 100.

    Nothing is kept over a restart: a sweep is due whenever the worker starts.
    """

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send one entry's message."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except SchedulingError as error:
            log.warning("no tick: %s", error)


def start_ticking(app: Celery) -> None:
    """Tick in the background. A worker whose clock stops ends, so that it is restarted."""
    service = Service(app, scheduler_cls=Ticker)

    def tick() -> None:
        try:
            service.start()
        finally:
            if not drain.has_begun():
                log.error("the clock stopped: the worker ends, to be started anew")
                os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=tick, name="beat", daemon=True).start()
