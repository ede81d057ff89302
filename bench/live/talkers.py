"""People who speak at real time: each says a phrase, pauses for a second, says the next one.

``python -m bench.live.talkers PLAN``, a JSON object of ``Plan``. The output is a JSON object: all
seconds measured, by kind, the number of partials, and errors.
"""

import asyncio
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import websockets

RATE = 16_000
PHRASE_S, PAUSE_S = 3.0, 1.0
_SECOND_BYTES = 2 * RATE
_PHRASE_BYTES = int(PHRASE_S * _SECOND_BYTES)


@dataclass(frozen=True)
class Plan:
    """What the clients of one process do."""

    url: str
    model: str
    n_sessions: int
    n_talkers: int
    """The first so many talk; the others send silence."""
    seconds: float
    frame_ms: int
    flushes: bool
    """A talker flushes at the end of each phrase."""
    pcm: str | None = None
    """A file of s16le speech, which they say in phrases. None: noise, speech to the energy
    detector."""


def phrases(plan: Plan) -> Iterator[bytes]:
    """Yield what is said, phrase by phrase, from a random one on."""
    if plan.pcm is None:
        samples = np.random.default_rng(1).normal(0, 3_000, int(PHRASE_S * RATE))
        speech = samples.clip(-32_768, 32_767).astype("<i2").tobytes()
    else:
        speech = Path(plan.pcm).read_bytes()
    number = random.randrange(len(speech) // _PHRASE_BYTES)
    while True:
        yield speech[number * _PHRASE_BYTES : (number + 1) * _PHRASE_BYTES]
        number = (number + 1) % (len(speech) // _PHRASE_BYTES)


class Talker:
    """One client of ``/ws/stt``."""

    def __init__(self, plan: Plan, *, talks: bool) -> None:
        self._plan, self._talks = plan, talks
        self._awaited = "flush" if plan.flushes else "endpoint"
        self._ended_at: list[float] = []
        """When the last sound of each phrase was sent, or its flush."""
        self._spoke_at: float | None = None
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.n_partials = 0
        self.errors: list[str] = []

    async def run(self) -> None:
        """Speak, and measure."""
        await asyncio.sleep(random.uniform(0, PHRASE_S + PAUSE_S))
        async with websockets.connect(self._plan.url, compression=None) as socket:
            config = {"model": self._plan.model, "lang_code": "en"}
            await socket.send(json.dumps({"type": "start_session", "config": config}))
            reader = asyncio.create_task(self._read(socket))
            with suppress(websockets.ConnectionClosed):  # a refusal is among the errors
                await self._speak(socket)
                await socket.send(json.dumps({"type": "end_session"}))
            await reader

    async def _speak(self, socket: Any) -> None:
        frame_bytes = _SECOND_BYTES * self._plan.frame_ms // 1000
        pause = bytes(int(PAUSE_S * _SECOND_BYTES))
        began, sent = time.perf_counter(), 0
        for phrase in phrases(self._plan):
            said = (phrase if self._talks else bytes(len(phrase))) + pause
            for start in range(0, len(said), frame_bytes):
                frame = said[start : start + frame_bytes]
                sent += len(frame)
                # A frame is there once it has been spoken.
                await asyncio.sleep(began + sent / _SECOND_BYTES - time.perf_counter())
                await socket.send(frame)
                if self._talks and start < len(phrase) <= start + frame_bytes:
                    if self._plan.flushes:
                        await socket.send('{"type": "flush"}')
                    self._ended_at.append(time.perf_counter())
            if sent >= self._plan.seconds * _SECOND_BYTES:
                return

    async def _read(self, socket: Any) -> None:
        with suppress(websockets.ConnectionClosed):
            async for text in socket:
                self._take(json.loads(text), time.perf_counter())

    def _take(self, message: dict[str, Any], now: float) -> None:
        self.n_partials += message["type"] == "partial_transcript"
        match message["type"]:
            case "vad_event" if message["state"] == "speech_start":
                self._spoke_at = now
            case "partial_transcript" if self._spoke_at is not None:
                self.seconds["first partial"].append(now - self._spoke_at)
                self._spoke_at = None
            # Pauses within a phrase of real speech end segments, too.
            case "final_transcript" if message["reason"] == self._awaited and self._ended_at:
                self.seconds["final"].append(now - self._ended_at.pop(0))
            case "error":
                self.errors.append(f"{message['code']} {message['message']}")


async def main(plan: Plan) -> None:
    """Open all sessions, and print what was measured."""
    talkers = [Talker(plan, talks=number < plan.n_talkers) for number in range(plan.n_sessions)]
    await asyncio.gather(*(talker.run() for talker in talkers))
    found: defaultdict[str, list[float]] = defaultdict(list)
    for talker in talkers:
        for name, values in talker.seconds.items():
            found[name] += values
    n_partials = sum(talker.n_partials for talker in talkers)
    errors = [error for talker in talkers for error in talker.errors]
    print(json.dumps({"seconds": found, "n_partials": n_partials, "errors": errors}))


if __name__ == "__main__":
    asyncio.run(main(Plan(**json.loads(sys.argv[1]))))
