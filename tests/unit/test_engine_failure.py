"""What a model worker does about an engine that cannot go on."""

import signal
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from shared.infra.errors import EngineFailed
from shared.speech.audio import Samples
from shared.speech.chunks import Hypothesis
from worker.batching.batcher import Batcher
from worker.engines.protocol import DecodeOptions
from worker.steps.transcribe import await_inferences

SILENCE = np.zeros(16, np.float32)


class FailingEngine:
    device, dtype, version, weights_digest, max_batch = "cpu", "float32", "failing 1", "none", 1

    def transcribe(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        raise EngineFailed("the device is lost")


@pytest.fixture
def terminations() -> Iterator[list[int]]:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: received.append(signum))
    yield received
    signal.signal(signal.SIGTERM, before)


def test_an_engine_that_breaks_down_stops_its_worker(terminations: list[int]) -> None:
    future = Batcher(FailingEngine()).submit(SILENCE, DecodeOptions())
    with pytest.raises(EngineFailed):
        await_inferences([future])
    assert terminations == [signal.SIGTERM]
