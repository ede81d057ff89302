"""The Celery application and its settings.

Correctness relies on nothing here: no acknowledgement, no visibility timeout, no result. The
settings serve promptness (connections notice a dead peer) and memory (nothing is stored).
"""

from typing import Any

import redis
from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from shared.infra.errors import BrokerUnavailable
from shared.infra.settings import Settings

WAKE_UP = "wake_up"
"""The one message beside the ticks of beat: there is work in a queue."""

_CONNECT_TIMEOUT_S = 0.5
_SEND_TIMEOUT_S = 0.5
"""Together with the above one second: the longest that a sender waits for a broker."""
_CONSUME_TIMEOUT_S = 5.0
"""Longer than the transport's blocking pop of a second, short enough to notice a frozen broker."""
_CHECK_CONNECTION_S = 3
"""Interval at which a consumer checks whether the answer to its pop is overdue. A dead connection
is replaced after some 15 s: kombu checks twice and then waits for one more answer."""
_RECONNECT_S = 1.0
"""Pause between a worker's attempts to connect; Celery's own grows to 30 s."""


class _PromptConnection(Connection):
    """A connection that tries every second to reach the broker."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Connect, after as many attempts as it takes."""
        steady = {"interval_start": _RECONNECT_S, "interval_step": 0, "interval_max": _RECONNECT_S}
        return super().ensure_connection(*args, **steady | kwargs)  # type: ignore[no-untyped-call]


class _PromptAmqp(AMQP):  # type: ignore[misc]
    Connection = _PromptConnection


def make_broker(settings: Settings, *, consumer: bool = False) -> Celery:
    """Return the Celery application for sending wake-ups or, as ``consumer``, for a worker."""
    app = Celery(
        "longhand",
        broker=settings.broker_url.get_secret_value(),
        set_as_current=consumer,
        amqp=_PromptAmqp,
    )
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        # A message is acknowledged before its step runs: the reaper, which counts attempts, and not
        # the broker recovers a step that kills its worker.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        # A busy worker takes no wake-up, so that an idle one gets it.
        worker_disable_prefetch=True,
        # Workers send events of steps, not of tasks (worker.process.watched).
        worker_send_task_events=False,
        task_send_sent_event=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_connect_timeout": _CONNECT_TIMEOUT_S,
            "socket_timeout": _CONSUME_TIMEOUT_S if consumer else _SEND_TIMEOUT_S,
            "socket_keepalive": True,
            "health_check_interval": _CHECK_CONNECTION_S,
            # With emulated acknowledgements, one that is lost on a dead connection counts against
            # the prefetch limit for ever, and a worker of one step at a time takes no more
            # messages.
            "ack_emulation": False,
            # A sender gives up at once: the sweep sends later.
            **({} if consumer else {"max_retries": 1, "interval_start": 0, "interval_max": 0}),
        },
    )
    return app


def send_wakeups(broker: Celery, queue: str, n: int) -> None:
    """Send ``n`` wake-ups to a queue.

    Raises:
        BrokerUnavailable: not all were sent.
    """
    try:
        for _ in range(n):
            broker.send_task(WAKE_UP, args=(queue,), queue=queue, retry=False)
    except OperationalError as error:
        raise BrokerUnavailable("Redis cannot be reached") from error


def count_messages(broker: Celery, queue: str) -> int:
    """Return the number of messages in a queue.

    Raises:
        BrokerUnavailable: Redis cannot be reached.
    """
    try:
        with broker.pool.acquire() as connection:
            return int(connection.default_channel.client.llen(queue))
    except (OperationalError, redis.RedisError, OSError) as error:
        raise BrokerUnavailable("Redis cannot be reached") from error


def ping(settings: Settings) -> None:
    """Make one round trip on a connection of its own.

    Raises:
        BrokerUnavailable: Redis cannot be reached, or does not answer, within a second.
    """
    try:
        with redis.Redis.from_url(
            settings.broker_url.get_secret_value(),
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            socket_timeout=_SEND_TIMEOUT_S,
            retry=None,
        ) as client:
            client.ping()
    except redis.RedisError as error:
        raise BrokerUnavailable("Redis cannot be reached") from error
