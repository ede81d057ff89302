"""From which of its queues a worker takes wake-ups now."""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.signals import task_postrun, task_received
from celery.worker.consumer import Consumer
from celery.worker.request import Request

from shared.queue.broker import WAKE_UP
from shared.store.workers import WorkerEntry
from worker.process import drain

_POP_S = 0.25
"""How long one pop waits for messages. A queue that is taken from again joins the next pop."""


class Intake:
    """Leaves the messages of a queue to other workers while this one is drained.

    Where a process is several workers, each leaves its queue's messages also while it answers as
    many wake-ups as it has slots; so none takes the threads of the others.
    """

    def __init__(self, consumer: Consumer, slots: Mapping[str, int]) -> None:
        """``slots``: of each queue that has its own; from the others, as many as there are
        threads."""
        self._consumer, self._slots = consumer, slots
        self._n_answered: Counter[str] = Counter()
        if slots:
            task_received.connect(self._note_begin, weak=False)
            task_postrun.connect(self._note_end, weak=False)

    def drain(self, entry: WorkerEntry, drained: bool) -> None:
        """Called with every heartbeat, by its thread."""
        for queue in entry.queues:
            drain.request(queue, drained=drained)
            if self._is_consumed(queue) is drained:
                self._consumer.call_soon(self._settle, queue)

    def _note_begin(self, request: Request, **_: Any) -> None:
        """A message was taken; called by the event loop, before it takes another."""
        if request.name == WAKE_UP:
            (queue,) = request.args
            self._n_answered[queue] += 1
            self._settle(queue)

    def _note_end(self, args: tuple[str, ...], **_: Any) -> None:
        """A wake-up is answered; called by its thread."""
        self._consumer.call_soon(self._note_answer, args[0])

    def _note_answer(self, queue: str) -> None:
        self._n_answered[queue] -= 1
        self._settle(queue)

    def _settle(self, queue: str) -> None:
        """Take messages of a queue, or leave them; the event loop calls."""
        is_full = queue in self._slots and self._n_answered[queue] >= self._slots[queue]
        takes = not is_full and not drain.claims_nothing(queue)
        if takes is not self._is_consumed(queue):
            change = self._consumer.add_task_queue if takes else self._consumer.cancel_task_queue
            change(queue)

    def _is_consumed(self, queue: str) -> bool:
        return queue in self._consumer.app.amqp.queues.consume_from


def take_in_turn(app: Celery) -> None:
    """Have pops be short, and nothing logged, as queues are left and taken again all the time."""
    app.conf.broker_transport_options |= {"polling_interval": _POP_S}
    logging.getLogger("celery.worker.consumer.consumer").setLevel(logging.WARNING)
