"""A queue's messages, for tests that send some without any worker."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from sqlalchemy import Engine

from shared.infra.database import make_engine
from shared.infra.settings import Settings
from shared.queue.broker import make_broker
from shared.queue.wakeups import Wakeups
from shared.store.queues import CPU_QUEUE, DELIVER_QUEUE, LARGE_QUEUE
from shared.store.wakeups import connect_wakeups

MODEL_QUEUE = "model.oracle"


def take_wakeups(broker: Celery, queue: str) -> list[list[Any]]:
    """Return the arguments of each message in a queue, oldest first; they are consumed."""
    found: list[list[Any]] = []
    with broker.connection_for_read() as connection:
        redis = connection.default_channel.client
        while raw := redis.rpop(queue):
            args, _kwargs, _embed = json.loads(base64.b64decode(json.loads(raw)["body"]))
            found.append(args)
    return found


@contextmanager
def ringing(settings: Settings) -> Iterator[Engine]:
    """An engine whose transactions wake workers; at the end all that was rung has been sent."""
    engine = make_engine(settings)
    wakeups = Wakeups(engine, make_broker(settings), settings)
    connect_wakeups(engine, wakeups.ring)
    try:
        yield engine
    finally:
        wakeups.close()
        engine.dispose()


def top_up(settings: Settings) -> None:
    """Do as the sweep does."""
    engine = make_engine(settings)
    wakeups = Wakeups(engine, make_broker(settings), settings)
    wakeups.top_up()
    wakeups.close()
    engine.dispose()


def messages(broker: Celery) -> dict[str, int]:
    """How many wake-ups are in each queue."""
    with broker.connection_for_read() as connection:
        redis = connection.default_channel.client
        names = (CPU_QUEUE, LARGE_QUEUE, DELIVER_QUEUE, MODEL_QUEUE)
        return {name: found for name in names if (found := redis.llen(name))}
