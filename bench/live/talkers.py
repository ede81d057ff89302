"""People who speak at real time: each says a phrase, pauses for a second, says the next one.

``python -m bench.live.talkers URL TALKERS SECONDS FRAME_MS FLUSH``; with FLUSH 1 the client flushes
at the end of each phrase. The output is a JSON object: all seconds measured, by kind, and errors.
"""

import asyncio
import json
import random
import sys
import time
from collections import defaultdict
from contextlib import suppress
from typing import Any

import numpy as np
import websockets

RATE = 16_000
PHRASE_S, PAUSE_S = 3.0, 1.0


def phrase() -> bytes:
    """Return noise that is loud enough to be speech to the energy detector, as s16le."""
    samples = np.random.default_rng(1).normal(0, 3_000, int(PHRASE_S * RATE))
    return samples.clip(-32_768, 32_767).astype("<i2").tobytes()


class Talker:
    """One client of ``/ws/stt``."""

    def __init__(self, url: str, seconds: float, frame_ms: int, *, flushes: bool) -> None:
        self._url, self._seconds, self._flushes = url, seconds, flushes
        self._frame_bytes = 2 * RATE * frame_ms // 1000
        self._ended_at: list[float] = []
        """When the last sound of each phrase was sent, or its flush."""
        self._spoke_at: float | None = None
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []

    async def run(self) -> None:
        """Speak, and measure."""
        await asyncio.sleep(random.uniform(0, PHRASE_S + PAUSE_S))
        async with websockets.connect(self._url, compression=None) as socket:
            config = {"model": "oracle", "lang_code": "en"}
            await socket.send(json.dumps({"type": "start_session", "config": config}))
            reader = asyncio.create_task(self._read(socket))
            with suppress(websockets.ConnectionClosed):  # a refusal is among the errors
                await self._speak(socket)
                await socket.send(json.dumps({"type": "end_session"}))
            await reader

    async def _speak(self, socket: Any) -> None:
        sound, silence = phrase(), bytes(int(2 * RATE * PAUSE_S))
        began, sent = time.perf_counter(), 0
        while sent < self._seconds * 2 * RATE:
            for audio in (sound, silence):
                for start in range(0, len(audio), self._frame_bytes):
                    frame = audio[start : start + self._frame_bytes]
                    sent += len(frame)
                    # A frame is there once it has been spoken.
                    await asyncio.sleep(began + sent / (2 * RATE) - time.perf_counter())
                    await socket.send(frame)
                if audio is sound:
                    if self._flushes:
                        await socket.send('{"type": "flush"}')
                    self._ended_at.append(time.perf_counter())

    async def _read(self, socket: Any) -> None:
        with suppress(websockets.ConnectionClosed):
            async for text in socket:
                self._take(json.loads(text), time.perf_counter())

    def _take(self, message: dict[str, Any], now: float) -> None:
        match message["type"]:
            case "vad_event" if message["state"] == "speech_start":
                self._spoke_at = now
            case "partial_transcript" if self._spoke_at is not None:
                self.seconds["first partial"].append(now - self._spoke_at)
                self._spoke_at = None
            case "final_transcript" if message["text"] and self._ended_at:
                self.seconds["final"].append(now - self._ended_at.pop(0))
            case "error":
                self.errors.append(f"{message['code']} {message['message']}")


async def main(url: str, n_talkers: int, seconds: float, frame_ms: int, *, flushes: bool) -> None:
    """Have all talk, and print what was measured."""
    talkers = [Talker(url, seconds, frame_ms, flushes=flushes) for _ in range(n_talkers)]
    await asyncio.gather(*(talker.run() for talker in talkers))
    found: defaultdict[str, list[float]] = defaultdict(list)
    for talker in talkers:
        for name, values in talker.seconds.items():
            found[name] += values
    print(json.dumps({"seconds": found, "errors": [e for t in talkers for e in t.errors]}))


if __name__ == "__main__":
    url, n_talkers, seconds, frame_ms, flush = sys.argv[1:]
    asyncio.run(main(url, int(n_talkers), float(seconds), int(frame_ms), flushes=flush == "1"))
