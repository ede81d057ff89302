"""A queue's messages and its workers, for tests that dispatch without any."""

import base64
import json
from uuid import UUID

from celery import Celery
from sqlalchemy import Engine, text

from shared.store.workers import WorkerEntry, WorkerState, announce


def add_worker(database: Engine, queue: str, slots: int, state: WorkerState = "ready") -> None:
    """Enter a worker in the registry; of the same queue and slots it is the same one."""
    announce(
        database,
        WorkerEntry(
            id=f"{queue}-{slots}",
            role="model",
            model="oracle",
            queues=(queue,),
            slots=slots,
            state=state,
            device="cpu",
            dtype=None,
            version="test",
            load_s=None,
            warm_up_s=None,
        ),
    )


def take_messages(broker: Celery, queue: str, at_most: int = 1_000_000) -> list[int]:
    """Return the step ids in a queue, oldest first; they are consumed, as a lost message is."""
    found: list[int] = []
    with broker.connection_for_read() as connection:
        redis = connection.default_channel.client
        while len(found) < at_most and (raw := redis.rpop(queue)):
            args, _kwargs, _embed = json.loads(base64.b64decode(json.loads(raw)["body"]))
            found += args
    return found


def dispatched_jobs(database: Engine) -> list[UUID]:
    """The job of each dispatched, unclaimed chunk."""
    with database.begin() as connection:
        return list(
            connection.execute(
                text("""
                    SELECT job_id FROM steps
                    WHERE kind = 'transcribe' AND state = 'queued' AND dispatched_at IS NOT NULL
                """)
            ).scalars()
        )
