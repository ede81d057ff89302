"""An API process's way to the model workers, for tests that are not asynchronous."""

import asyncio
import threading
import uuid
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np

from api.live.hearer import LiveLoad
from api.live.transcriber import Transcriber
from harness.programs.workers import wait_until
from shared.infra.settings import Settings
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest
from worker.engines.oracle import encode, word_text

T = TypeVar("T")


def pcm_of(words: Sequence[int]) -> bytes:
    """Numbers as s16le PCM that the oracle reads."""
    samples, _ = encode(words)
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def final(*words: int, segment: str = "", **fields: Any) -> LiveRequest:
    """A request for the text of an utterance, by default of a segment of its own."""
    return request(LiveKind.FINAL, words, segment, **fields)


def partial(*words: int, segment: str = "", **fields: Any) -> LiveRequest:
    return request(LiveKind.PARTIAL, words, segment, **fields)


def request(kind: LiveKind, words: Sequence[int], segment: str, **fields: Any) -> LiveRequest:
    number = uuid.uuid4().hex
    return LiveRequest(number, segment or number, kind, "oracle", pcm_of(words), **fields)


def words_of(answer: LiveAnswer) -> list[str]:
    assert answer.hypothesis is not None, answer.error
    return [word.text for word in answer.hypothesis.words]


def texts(*words: int) -> list[str]:
    return [*map(word_text, words)]


class LiveSender:
    """A ``Transcriber`` whose loop is a thread's."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.transcriber = Transcriber(settings)
        self._run(self.transcriber.start()).result(60)

    def hear(self, *requests: LiveRequest) -> list[Future[LiveAnswer]]:
        return [self._run(self.transcriber.hear(each)) for each in requests]

    def cancel(self, segment: str) -> None:
        self._run(self.transcriber.cancel(segment)).result(60)

    def rouse(self) -> None:
        self._run(self.transcriber.rouse("oracle")).result(60)

    def load(self, model: str = "oracle") -> LiveLoad:
        async def look() -> LiveLoad:
            return self.transcriber.load(model)

        return self._run(look()).result(60)

    def await_workers(self, n: int) -> None:
        """Wait until so many workers take requests."""
        wait_until(lambda: self.load().workers == n)

    def close(self) -> None:
        self._run(self.transcriber.close()).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
