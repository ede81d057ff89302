"""What a model worker does about an engine that cannot go on."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import numpy as np
import pytest

from shared.infra.errors import EngineFailed
from shared.speech.audio import Samples
from shared.speech.chunks import Hypothesis
from worker.batching.batcher import Batcher, Inference
from worker.engines.protocol import DecodeOptions
from worker.steps.infer import EXIT_HUNG, restart, wait_for_some

SILENCE = np.zeros(16, np.float32)


class HangingEngine:
    device, dtype, version, weights_digest, max_batch = "cpu", "float32", "hanging 1", "none", 1

    def transcribe(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        threading.Event().wait()
        raise AssertionError


@pytest.fixture
def terminations() -> Iterator[list[int]]:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: received.append(signum))
    yield received
    signal.signal(signal.SIGTERM, before)


def test_an_engine_that_breaks_down_stops_its_worker_in_order(terminations: list[int]) -> None:
    restart(EngineFailed("the device is lost"))
    assert terminations == [signal.SIGTERM]


def infer_with_a_hung_engine() -> None:
    future = Batcher(HangingEngine()).submit(SILENCE, DecodeOptions())
    wait_for_some([future], limit_s=0.1)


def test_an_engine_that_hangs_ends_its_worker() -> None:
    worker = multiprocessing.get_context("fork").Process(target=infer_with_a_hung_engine)
    worker.start()
    worker.join(20)
    assert worker.exitcode == EXIT_HUNG


def test_as_long_as_some_are_over_in_time_the_others_are_waited_for() -> None:
    over, waiting = Future[Inference](), Future[Inference]()
    over.set_exception(EngineFailed("so"))
    assert wait_for_some([over, waiting], limit_s=0.1) == {over}
