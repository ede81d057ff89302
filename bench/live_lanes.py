"""What chunks of jobs and people who speak cost each other on one device.

A sleeping engine stands for the device, so that the numbers are those of the lanes alone. Requests
take the real way: an API process's client, Redis, a model worker's thread, its batcher. People
speak without a pause: a partial every 300 ms, whose audio grows, and a final every 4 s. Chunks are
submitted whenever the batcher has room for them, as a model worker claims its steps.
"""

import asyncio
import random
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from pydantic import SecretStr

from api.live.transcriber import Transcriber
from cli.embedded.servers import running_servers
from shared.infra.settings import Settings
from shared.models.catalogue import load_catalogue
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from shared.speech.live.requests import LiveKind, LiveRequest
from worker.batching.batcher import Batcher
from worker.batching.load import Loaded
from worker.batching.resident import ResidentModel
from worker.engines.protocol import DecodeOptions, EngineOf, Prepared
from worker.live.taker import LiveTaker

SECONDS = 20.0
TALKERS = (0, 5, 15, 50)
PARTIAL_S = 0.3
FINAL_S = 4.0
MAX_BATCH = 32
MODEL = "oracle"
COSTS: dict[str, Callable[[int], float]] = {
    "100 ms a call": lambda _: 0.1,
    "30 ms a call, 5 ms an item": lambda n: 0.03 + 0.005 * n,
}


class SleepingEngine(EngineOf[int, int]):
    """Takes time, hears nothing."""

    device, dtype, version, weights_digest = "cpu", "float32", "sleeping 1", "none"
    max_batch = MAX_BATCH

    def __init__(self, cost: Callable[[int], float], *, apart: bool) -> None:
        """``cost``: seconds of a call, by its items. ``apart``: languages share no call."""
        self._cost, self._apart = cost, apart

    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[int] | Hypothesis:
        """Take an item as one of a window, as a Whisper does."""
        group = options.language if self._apart else None
        return Prepared(len(samples), self.window_samples, group)

    def infer(self, batch: Sequence[Prepared[int]]) -> list[int | Prepared[int]]:
        """Sleep."""
        time.sleep(self._cost(len(batch)))
        return [item.input for item in batch]

    def finish(self, raw: int) -> Hypothesis:
        """Return the length in place of a language."""
        return Hypothesis((), str(raw))


def run() -> None:
    """Print how many chunks a second are done, and the latencies of live requests."""
    with tempfile.TemporaryDirectory() as folder, running_servers(Path(folder)) as endpoints:
        settings = Settings(broker_url=SecretStr(endpoints.broker_url))
        print(f"{'':<42}{'chunks/s':>9}{'share':>7}{'partial p50':>13}{'p95':>6}", end="")
        print(f"{'final p50':>11}{'p95':>6}")
        for name, cost in COSTS.items():
            for apart in (False, True):
                alone = 0.0
                for n_talkers in TALKERS:
                    rate, times = _measure(settings, SleepingEngine(cost, apart=apart), n_talkers)
                    alone = alone or rate
                    told = f"{name}{', calls apart' if apart else ''}, {n_talkers} talk"
                    print(f"{told:<42}{rate:>9.1f}{rate / alone:>7.0%}", end="")
                    for kind, width in ((LiveKind.PARTIAL, 13), (LiveKind.FINAL, 11)):
                        middle, late = _quantiles_ms(times[kind])
                        print(f"{middle:>{width}}{late:>6}", end="")
                    print(flush=True)


def _measure(
    settings: Settings, engine: SleepingEngine, n_talkers: int
) -> tuple[float, dict[LiveKind, list[float]]]:
    """Return chunks a second, and seconds from request to answer."""
    resident = ResidentModel(lambda: Loaded(engine, 0.0, 0.0), settings, nullcontext())
    model = load_catalogue(settings.catalogue).get(MODEL)
    taker = LiveTaker(settings, f"bench@{uuid.uuid4().hex}", model, resident)
    try:
        with resident.use() as batcher, _feeding(batcher) as done:
            time.sleep(1.0)
            before, began = len(done), time.monotonic()
            times = asyncio.run(_talk(settings, n_talkers))
            return (len(done) - before) / (time.monotonic() - began), times
    finally:
        taker.close()
        resident.close()


@contextmanager
def _feeding(batcher: Batcher) -> Iterator[list[float]]:
    """Keep the batcher supplied with chunks; yield when each was done."""
    samples = np.zeros(30 * SAMPLE_RATE, np.float32)
    done: list[float] = []
    stop = threading.Event()

    def feed() -> None:
        while not stop.is_set():
            for _ in range(batcher.room()):
                future = batcher.submit(samples, DecodeOptions(language="de"))
                future.add_done_callback(lambda _: done.append(time.monotonic()))
            stop.wait(0.005)

    thread = threading.Thread(target=feed)
    thread.start()
    yield done
    stop.set()
    thread.join()


async def _talk(settings: Settings, n_talkers: int) -> dict[LiveKind, list[float]]:
    times: dict[LiveKind, list[float]] = {kind: [] for kind in LiveKind}
    transcriber = Transcriber(settings)
    await transcriber.start()
    try:
        speech = [_speak(transcriber, times, random.Random(n)) for n in range(n_talkers)]
        await asyncio.gather(asyncio.sleep(SECONDS), *speech)
    finally:
        await transcriber.close()
    return times


async def _speak(
    transcriber: Transcriber, times: dict[LiveKind, list[float]], chance: random.Random
) -> None:
    """Speak until the time is over."""
    until = time.monotonic() + SECONDS
    asked: list[asyncio.Task[None]] = []
    await asyncio.sleep(chance.uniform(0, PARTIAL_S))
    while time.monotonic() < until:
        segment = uuid.uuid4().hex
        n_ticks = round(FINAL_S / PARTIAL_S * chance.uniform(0.7, 1.3))
        for tick in range(1, n_ticks + 1):
            await asyncio.sleep(PARTIAL_S)
            kind = LiveKind.FINAL if tick == n_ticks else LiveKind.PARTIAL
            pcm = bytes(2 * int(tick * PARTIAL_S * SAMPLE_RATE))
            request = LiveRequest(uuid.uuid4().hex, segment, kind, MODEL, pcm, "en")
            asked.append(asyncio.create_task(_hear(transcriber, request, times[kind])))
    await asyncio.gather(*asked)


async def _hear(transcriber: Transcriber, request: LiveRequest, times: list[float]) -> None:
    began = time.monotonic()
    answer = await transcriber.hear(request)
    if answer.error is None:
        times.append(time.monotonic() - began)
    elif request.kind is LiveKind.FINAL:
        raise SystemExit(f"bench: a final failed: {answer.error}")


def _quantiles_ms(times: Sequence[float]) -> tuple[str, str]:
    if len(times) < 2:
        return "", ""
    late = statistics.quantiles(times, n=20)[18]
    return f"{1000 * statistics.median(times):.0f}", f"{1000 * late:.0f}"
