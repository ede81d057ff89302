"""What the Silero VAD hands to the model: all speech, and nothing of what is none."""

from collections.abc import Callable, Iterator

import pytest

from bench.audio import music, pink_noise, silence, white_noise
from bench.fidelity import speech_kept
from bench.pipeline import transcribe
from shared.speech.audio.samples import Pcm
from worker.engines.oracle import OracleEngine

LEAST_KEPT = 0.995


@pytest.mark.parametrize(
    ("level_dbfs", "colour", "snr_db"),
    [
        *((-15, "none", None), (-30, "none", None), (-45, "none", None), (-75, "none", None)),
        (-90, "none", None),  # peaks of a few steps of 16 bits
        *((-25, "white", 10), (-25, "pink", 10), (-25, "pink", 25), (-40, "pink", 40)),
    ],
)
def test_speech_is_kept_at_every_level_and_in_noise(
    level_dbfs: float, colour: str, snr_db: float | None
) -> None:
    kept, handed_over = speech_kept(120, level_dbfs, colour, snr_db, seed=1)

    assert kept >= LEAST_KEPT
    assert handed_over < 0.95, "pauses are left out"


def test_a_word_by_itself_is_kept() -> None:
    """Of this "hello" before a pause Silero is less sure than of a sentence."""
    kept, _ = speech_kept(60, -20, "none", None, seed=7)

    assert kept == pytest.approx(1, abs=0.001)


@pytest.mark.parametrize(
    "make",
    [
        silence,
        lambda duration_s: white_noise(duration_s, -30),
        lambda duration_s: pink_noise(duration_s, -30),
        lambda duration_s: music(duration_s, -20),
        lambda duration_s: pink_noise(duration_s, -65),
        lambda duration_s: music(duration_s, -60),
    ],
    ids=["silence", "white noise", "pink noise", "music", "quiet noise", "quiet music"],
)
def test_sound_without_speech_does_not_reach_the_model(
    make: Callable[[float], Iterator[Pcm]],
) -> None:
    skipped = transcribe(make(60), OracleEngine(), vad="silero", window_s=30)
    unskipped = transcribe(make(60), OracleEngine(), vad="off", window_s=30)

    assert skipped.skipped_s >= 0.98 * 60
    # Of digital silence half a minute is heard, whatever the detector.
    assert (unskipped.skipped_s, unskipped.words) == (30 if make is silence else 0, [])
