"""What decoding apart costs: a file decoded in this process and in a decoder, in turns."""

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.audio import write_words
from shared.infra.decoder_server import DecoderServer
from shared.speech.audio.samples import Channels
from shared.speech.audio.voice_activity import make_vad
from worker.media.decode import decode
from worker.media.planner import ChunkPlanner
from worker.media.sandbox.client import Limits
from worker.media.sandbox.client import decode as decode_apart

LIMITS = Limits(audio_s=1e6, wall_s=600.0, memory_bytes=1 << 30)
FILES = ((4, 80), (600, 5))
"""Seconds of WAV, and rounds."""


class Cost(NamedTuple):
    """Of one round."""

    wall_s: float
    cpu_s: float
    """Of this process."""


def run() -> None:
    """Print what decoding, finding speech and planning take, both ways."""
    server = DecoderServer()
    print(f"media sandbox: {server.sandbox()}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.wav"
        for seconds, rounds in FILES:
            write_words(path, seconds)
            data = path.read_bytes()
            ways: dict[str, Callable[[], Iterator[Channels]]] = {
                "here": lambda: decode(io.BytesIO(data), 1e6),  # noqa: B023 - called at once
                "apart": lambda: decode_apart(server, io.BytesIO(data), LIMITS),  # noqa: B023
            }
            costs: dict[str, list[Cost]] = {name: [] for name in ways}
            began_s = _decoders_cpu_s(server)
            for _ in range(rounds):
                for name, blocks in ways.items():
                    costs[name].append(_prepare(blocks))
                    time.sleep(0.05)  # the next decoder is forked ahead meanwhile
            decoders_s = (_decoders_cpu_s(server) - began_s) / rounds
            for name, each in costs.items():
                walls, cpus = zip(*each, strict=True)
                beside = f" + {1000 * decoders_s:.1f} in decoders" * (name == "apart")
                print(
                    f"{seconds:4} s {name:<5} wall: median {1000 * statistics.median(walls):7.1f}, "
                    f"least {1000 * min(walls):7.1f} ms; CPU: median "
                    f"{1000 * statistics.median(cpus):7.1f}, least {1000 * min(cpus):7.1f}{beside}"
                )
    server.close()


def _prepare(blocks: Callable[[], Iterator[Channels]]) -> Cost:
    vad, planner = make_vad("silero"), ChunkPlanner(30)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for (block,) in blocks():
        planner.push(block, vad.push(block))
    vad.finish()
    return Cost(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def _decoders_cpu_s(server: DecoderServer) -> float:
    """Return the processor time of the server and of all decoders that have ended."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
