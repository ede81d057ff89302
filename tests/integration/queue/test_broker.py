"""How workers and beat go through an outage of the broker."""

import contextlib
import logging
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
import redis
from celery import Celery
from celery.beat import ScheduleEntry
from kombu import Consumer, Message, Queue
from kombu.exceptions import OperationalError
from pydantic import SecretStr

from harness.jobs.queues import take_wakeups
from harness.programs.workers import wait_until
from harness.servers.api_server import relayed
from shared.infra.errors import BrokerUnavailable
from shared.infra.settings import Settings
from shared.queue.broker import count_messages, make_broker, send_wakeups
from worker.upkeep.beat import Ticker

NOWHERE = Settings(broker_url=SecretStr("redis://:secret@127.0.0.1:1/0"))


def test_a_worker_looks_every_second_whether_the_broker_is_back() -> None:
    pauses: list[float] = []
    connection = make_broker(NOWHERE, consumer=False).connection_for_read()
    with pytest.raises(OperationalError):
        connection.ensure_connection(lambda _error, pause: pauses.append(pause), max_retries=2)
    assert pauses == [1.0, 1.0]


ASK: dict[str, Callable[[Celery], object]] = {
    "send": lambda broker: send_wakeups(broker, "nobody", 1),
    "count": lambda broker: count_messages(broker, "nobody"),
}


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize("outage", ["cut", "mute"])
def test_a_broker_that_is_away_or_says_nothing_is_given_up(
    settings: Settings, ask: str, outage: str
) -> None:
    with relayed(settings, "broker_url") as (cut_off, relay):
        broker = make_broker(cut_off)

        def is_there() -> bool:
            with contextlib.suppress(BrokerUnavailable):  # the machine may stand still
                ASK[ask](broker)
                return True
            return False

        wait_until(is_there)
        getattr(relay, outage)()
        with pytest.raises(BrokerUnavailable):
            ASK[ask](broker)


def test_wake_ups_are_counted_until_they_are_taken(broker: Celery) -> None:
    send_wakeups(broker, "somebody", 3)
    send_wakeups(broker, "nobody", 0)
    send_wakeups(broker, "nobody", -1)
    assert [count_messages(broker, queue) for queue in ("somebody", "nobody")] == [3, 0]
    assert take_wakeups(broker, "somebody") == 3 * [["somebody"]]
    assert count_messages(broker, "somebody") == 0


def test_an_acknowledgement_lost_on_a_dead_connection_costs_no_prefetch_slot(
    settings: Settings,
) -> None:
    send_wakeups(make_broker(settings), "acknowledged", 1)
    with relayed(settings, "broker_url") as (muted, relay):
        connection = make_broker(muted, consumer=True).connection_for_read()
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        received: list[Message] = []
        consumer = Consumer(
            channel, [Queue("acknowledged")], on_message=received.append, accept=["json"]
        )
        with consumer:
            connection.drain_events(timeout=60)
            assert not channel.qos.can_consume()
            relay.mute()
            received[0].ack()
            assert channel.qos.can_consume()
            relay.cut()
            with contextlib.suppress(OSError, redis.RedisError):
                consumer.cancel()


def test_a_tick_that_cannot_be_sent_is_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_broker(NOWHERE)
    ticker = Ticker(app=app, lazy=True)
    with caplog.at_level(logging.INFO):
        ticker.apply_entry(ScheduleEntry(name="sweep", task="sweep", schedule=5.0, app=app))
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("WARNING", None)]
    assert "secret" not in caplog.text


def test_a_worker_whose_clock_stops_ends() -> None:
    worker = """
import time
from celery import Celery
from worker.upkeep import beat as ticking
ticking.Ticker.tick = lambda self: 1 / 0
ticking.start_ticking(Celery())
time.sleep(60)
"""
    ended = subprocess.run(
        [sys.executable, "-c", worker], stderr=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == -signal.SIGTERM
    assert "the clock stopped" in ended.stderr
