"""Half an hour without speech: how much reaches the model, and which words it invents."""

from collections.abc import Callable, Iterator

from bench.audio import music, pink_noise, silence, white_noise
from bench.pipeline import transcribe
from shared.speech.audio.samples import Pcm
from shared.speech.names import VAD_NAMES
from worker.engines.oracle import OracleEngine
from worker.engines.protocol import Engine

DURATION_S = 1800.0
WINDOW_S = 30.0

SOUNDS: dict[str, Callable[[float], Iterator[Pcm]]] = {
    "silence": silence,
    "white noise, -50 dBFS": lambda duration_s: white_noise(duration_s, -50),
    "white noise, -25 dBFS": lambda duration_s: white_noise(duration_s, -25),
    "pink noise, -50 dBFS": lambda duration_s: pink_noise(duration_s, -50),
    "pink noise, -25 dBFS": lambda duration_s: pink_noise(duration_s, -25),
    "music, -20 dBFS": lambda duration_s: music(duration_s, -20),
}
"""Each by its duration in seconds, the level being the RMS."""


def run(engines: dict[str, tuple[Engine, float]]) -> None:
    """Print how much of each sound passes each VAD, and the words that models make of it."""
    print(f"-- {DURATION_S / 60:g} min without a word")
    names = list(engines)
    print(f"{'sound':<24}{'vad':<8}{'handed over s':>14}{'skipped s':>11}  words from {names}")
    for sound, make in SOUNDS.items():
        blocks = [*make(DURATION_S)]
        for vad in VAD_NAMES:
            heard = transcribe(blocks, OracleEngine(), vad=vad, window_s=WINDOW_S)
            words = [
                len(transcribe(blocks, engine, vad=vad, window_s=window_s).words)
                for engine, window_s in engines.values()
            ]
            print(
                f"{sound:<24}{vad:<8}{heard.duration_s - heard.skipped_s:>14.1f}"
                f"{heard.skipped_s:>11.1f}  {' '.join(map(str, words))}",
                flush=True,
            )
