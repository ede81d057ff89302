"""How workers and beat go through an outage of the broker."""

import contextlib
import logging
import signal
import subprocess
import sys
from typing import Any

import pytest
import redis
from apiserver import relayed
from celery.beat import ScheduleEntry
from kombu import Consumer, Message, Queue
from kombu.exceptions import OperationalError
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from shared.infra.errors import BrokerUnavailable
from shared.infra.settings import Settings
from shared.queue.broker import make_broker, send_step
from worker.upkeep.beat import Ticker

STEP: dict[str, Any] = {"kind": "prepare", "step_id": 1, "job_id": uuid7(), "idx": 0}
NOWHERE = Settings(broker_url=SecretStr("redis://:secret@127.0.0.1:1/0"))


def test_a_worker_looks_every_second_whether_the_broker_is_back() -> None:
    pauses: list[float] = []
    connection = make_broker(NOWHERE, consumer=False).connection_for_read()
    with pytest.raises(OperationalError):
        connection.ensure_connection(lambda _error, pause: pauses.append(pause), max_retries=2)
    assert pauses == [1.0, 1.0]


def test_a_message_to_a_broker_that_says_nothing_is_given_up(settings: Settings) -> None:
    with relayed(settings, "broker_url") as (muted, relay):
        relay.mute()
        with pytest.raises(BrokerUnavailable):
            send_step(make_broker(muted), queue="nobody", **STEP)


def test_an_acknowledgement_lost_on_a_dead_connection_costs_no_prefetch_slot(
    settings: Settings,
) -> None:
    with relayed(settings, "broker_url") as (muted, relay):
        send_step(make_broker(muted), queue="acknowledged", **STEP)
        connection = make_broker(muted, consumer=True).connection_for_read()
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        received: list[Message] = []
        consumer = Consumer(
            channel, [Queue("acknowledged")], on_message=received.append, accept=["json"]
        )
        with consumer:
            connection.drain_events(timeout=10)
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
