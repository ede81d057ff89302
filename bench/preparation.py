"""Decode, find speech and plan chunks: audio seconds per wall second, on one core."""

import tempfile
import time
from pathlib import Path

from bench.audio import write_words
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.voice_activity import make_vad
from shared.speech.names import VAD_NAMES
from worker.media.decode import decode
from worker.media.planner import ChunkPlanner

MINUTES = 10


def run() -> None:
    """Print RTFx for each voice activity detector."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.wav"
        write_words(path, MINUTES * 60)
        for name in VAD_NAMES:
            started = time.perf_counter()
            vad, planner, n_samples = make_vad(name), ChunkPlanner(30), 0
            with path.open("rb") as source:
                for (block,) in decode(source, 1e6):
                    n_samples += len(block)
                    planner.push(block, vad.push(block))
            wall_s = time.perf_counter() - started
            rtfx = n_samples / SAMPLE_RATE / wall_s
            print(f"vad {name:<7} RTFx {rtfx:7.0f} (decode, VAD and plan in one pass)")
