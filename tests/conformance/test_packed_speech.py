"""Real speech with a long pause: heard without the pause, and timed with it."""

import jiwer
import numpy as np
import pytest

from bench.audio import to_pcm
from bench.pipeline import Outcome, transcribe
from harness.engines.accuracy import SAMPLES, plain_words
from harness.engines.real_models import BECKETT, TINY_EN, real_models, recording
from harness.engines.trained_models import read
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm
from worker.engines import load_engine
from worker.engines.protocol import DecodeOptions, Engine

PAUSE_S = 8
MOST_WORD_ERRORS = 0.05
TOLERANCE_S = 0.3
"""A Whisper times the same word differently in another window."""

pytestmark = pytest.mark.timeout(600)


def heard(engine: Engine, pcm: Pcm) -> Outcome:
    options = DecodeOptions(language="en", beam_size=TINY_EN.decode.beam_size)
    return transcribe([pcm], engine, vad="silero", window_s=30, packed=True, options=options)


def test_words_after_a_long_pause_are_where_they_were_said() -> None:
    engine = load_engine(real_models().get("tiny.en-ct2"), device="cpu")
    first, second = to_pcm(read(recording(BECKETT))), to_pcm(read(SAMPLES / "austen.flac"))
    pause = np.zeros(PAUSE_S * SAMPLE_RATE, np.int16)

    both = heard(engine, np.concatenate([first, pause, second]))

    (chunk,) = both.chunks
    assert chunk.n_samples > 30 * SAMPLE_RATE >= chunk.n_heard_samples
    at_s = len(first) / SAMPLE_RATE + PAUSE_S
    apart = [(word.text, word.start) for word in heard(engine, first).words]
    apart += [(word.text, word.start + at_s) for word in heard(engine, second).words]
    said = " ".join(text for text, _ in apart)
    found = " ".join(word.text for word in both.words)
    assert jiwer.wer(plain_words(said), plain_words(found)) <= MOST_WORD_ERRORS
    (alignment,) = jiwer.process_words(plain_words(said), plain_words(found)).alignments
    errors_s = [
        abs(both.words[part.hyp_start_idx + i].start - apart[part.ref_start_idx + i][1])
        for part in alignment
        if part.type == "equal"
        for i in range(part.ref_end_idx - part.ref_start_idx)
    ]
    assert np.percentile(errors_s, 95) <= TOLERANCE_S
