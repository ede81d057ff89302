"""A model worker whose engine hangs ends itself; one with much to do does not."""

import logging
import multiprocessing
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from shared.speech.audio import Samples
from shared.speech.chunks import Hypothesis
from worker.batching.batcher import Batcher
from worker.batching.watchdog import EXIT_HUNG, Watchdog
from worker.engines.protocol import DecodeOptions

SILENCE = np.zeros(16, np.float32)
LIMIT_S = 0.01


class Clock:
    """Stands still until it is set; tells when the watchdog has looked at it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.watched = threading.Event()

    def __call__(self) -> float:
        if threading.current_thread().name == "watchdog":
            self.watched.set()
        return self.now_s


class TimedEngine:
    """Takes ``call_s`` for each call, by the clock; a call goes on until it has been looked at."""

    device, dtype, version, weights_digest, max_batch = "cpu", "float32", "timed 1", "none", 1

    def __init__(self, clock: Clock, call_s: float) -> None:
        self.clock = clock
        self.call_s = call_s
        self.may_begin = threading.Event()

    def transcribe(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        assert self.may_begin.wait(10)
        self.clock.now_s += self.call_s
        # Once more: the first look may have read the time before.
        for _ in range(2):
            self.clock.watched.clear()
            assert self.clock.watched.wait(10)
        return [Hypothesis(()) for _ in batch]


class HangingEngine:
    device, dtype, version, weights_digest, max_batch = "cpu", "float32", "hanging 1", "none", 1

    def transcribe(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        threading.Event().wait()
        raise AssertionError


def test_a_queue_longer_than_the_limit_of_short_calls_ends_nobody() -> None:
    clock, ends = Clock(), list[int]()
    engine = TimedEngine(clock, call_s=0.4 * LIMIT_S)
    watchdog = Watchdog(LIMIT_S, clock=clock, end_process=ends.append)
    batcher = Batcher(engine, max_wait_ms=0, watchdog=watchdog)
    futures = [batcher.submit(SILENCE, DecodeOptions()) for _ in range(10)]
    engine.may_begin.set()
    for future in futures:
        future.result(20)
    assert clock.now_s == pytest.approx(4 * LIMIT_S)
    assert ends == []
    batcher.close()


def test_a_call_longer_than_the_limit_ends_the_process_with_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, ended = Clock(), threading.Event()
    statuses: list[int] = []

    def end(status: int) -> None:
        statuses.append(status)
        ended.set()

    watchdog = Watchdog(LIMIT_S, clock=clock, end_process=end)
    with caplog.at_level(logging.CRITICAL), watchdog:
        clock.now_s += LIMIT_S
        assert ended.wait(10)
    assert statuses == [EXIT_HUNG]
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]


def test_time_between_calls_ends_nobody() -> None:
    clock, ends = Clock(), list[int]()
    watchdog = Watchdog(LIMIT_S, clock=clock, end_process=ends.append)
    with watchdog:
        assert clock.watched.wait(10)
    clock.now_s += 100 * LIMIT_S
    clock.watched.clear()
    with watchdog:
        assert clock.watched.wait(10)
    assert ends == []


def test_a_call_may_last_for_ever_where_the_settings_say_so() -> None:
    clock, ends = Clock(), list[int]()
    watchdog = Watchdog(float("inf"), clock=clock, end_process=ends.append)
    with watchdog:
        assert clock.watched.wait(10)
        clock.now_s = 1e9
    clock.watched.clear()
    with watchdog:
        assert clock.watched.wait(10)
    assert ends == []


def infer_with_a_hung_engine() -> None:
    batcher = Batcher(HangingEngine(), watchdog=Watchdog(0.1))
    batcher.submit(SILENCE, DecodeOptions()).result()


def test_an_engine_that_hangs_ends_its_worker() -> None:
    worker = multiprocessing.get_context("fork").Process(target=infer_with_a_hung_engine)
    worker.start()
    worker.join(20)
    assert worker.exitcode == EXIT_HUNG
