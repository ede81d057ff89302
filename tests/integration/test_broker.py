"""How workers and beat go through an outage of the broker."""

import logging
import signal
import subprocess
import sys

import pytest
from celery.beat import ScheduleEntry
from kombu.exceptions import OperationalError
from pydantic import SecretStr

from shared.broker import make_broker
from shared.settings import Settings
from worker.ticking import Ticker

NOWHERE = Settings(broker_url=SecretStr("redis://:secret@127.0.0.1:1/0"))


def test_a_worker_looks_every_second_whether_the_broker_is_back() -> None:
    pauses: list[float] = []
    connection = make_broker(NOWHERE, consumer=False).connection_for_read()
    with pytest.raises(OperationalError):
        connection.ensure_connection(lambda _error, pause: pauses.append(pause), max_retries=2)
    assert pauses == [1.0, 1.0]


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
from worker import ticking
ticking.Ticker.tick = lambda self: 1 / 0
ticking.start_ticking(Celery())
time.sleep(60)
"""
    ended = subprocess.run(
        [sys.executable, "-c", worker], stderr=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == -signal.SIGTERM
    assert "the clock stopped" in ended.stderr
