"""A queue's messages, for tests that send some without any worker."""

import base64
import json
from typing import Any

from celery import Celery

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
