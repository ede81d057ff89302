"""A model worker whose engine hangs ends itself; one with much to do does not."""

import logging
import multiprocessing
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from harness.engines.fake import Item, ItemEngine
from worker.batching.batcher import Batcher
from worker.batching.watchdog import EXIT_HUNG, Watchdog
from worker.engines.protocol import DecodeOptions, Prepared

SILENCE = np.zeros(16, np.float32)


class WatchedEngine(ItemEngine):
    """Notes when the watchdog takes each call to have begun."""

    def __init__(self, watchdog: Watchdog) -> None:
        self.watchdog = watchdog
        self.may_begin = threading.Event()
        self.begun: list[float] = []

    def infer(self, batch: Sequence[Prepared[Item]]) -> list[Item | Prepared[Item]]:
        assert self.may_begin.wait(60)
        self.begun += self.watchdog.begun.values()
        return super().infer(batch)


class HangingEngine(ItemEngine):
    def infer(self, batch: Sequence[Prepared[Item]]) -> list[Item | Prepared[Item]]:
        threading.Event().wait()
        raise AssertionError


def test_each_call_of_a_long_queue_has_the_whole_limit() -> None:
    watchdog = Watchdog(3600)
    engine = WatchedEngine(watchdog)
    batcher = Batcher(engine, max_wait_ms=0, watchdog=watchdog)
    futures = [batcher.submit(SILENCE, DecodeOptions()) for _ in range(10)]
    engine.may_begin.set()
    for future in futures:
        future.result(60)
    batcher.close()
    assert len(set(engine.begun)) == 10
    assert watchdog.begun == {}
    assert not watchdog.is_overdue()


def test_a_call_longer_than_the_limit_ends_the_process_with_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = threading.Event()
    statuses: list[int] = []

    def end(status: int) -> None:
        statuses.append(status)
        ended.set()

    with caplog.at_level(logging.CRITICAL), Watchdog(0.01, end_process=end):
        assert ended.wait(60)
    assert statuses == [EXIT_HUNG]
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]


def test_a_call_may_last_for_ever_where_the_settings_say_so() -> None:
    watchdog = Watchdog(float("inf"))
    watchdog._begun = time.monotonic() - 1e9
    assert not watchdog.is_overdue()


def infer_with_a_hung_engine() -> None:
    batcher = Batcher(HangingEngine(), watchdog=Watchdog(0.1))
    batcher.submit(SILENCE, DecodeOptions()).result()


def test_an_engine_that_hangs_ends_its_worker() -> None:
    # Forked from a process without threads: a lock that one of ours held would stay locked.
    worker = multiprocessing.get_context("forkserver").Process(target=infer_with_a_hung_engine)
    worker.start()
    worker.join(60)
    assert worker.exitcode == EXIT_HUNG
