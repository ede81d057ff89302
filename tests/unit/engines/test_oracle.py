from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import WordHypothesis
from worker.engines.oracle import (
    HOP_SAMPLES,
    MAX_WORD,
    WORD_SAMPLES,
    OracleEngine,
    encode,
    encode_word,
    word_text,
)
from worker.engines.protocol import DecodeOptions


def read(samples: Samples) -> list[WordHypothesis]:
    return list(OracleEngine().transcribe([samples.astype(np.float32)], DecodeOptions())[0].words)


@given(
    st.lists(st.integers(0, MAX_WORD), max_size=12),
    st.floats(0, 0.3),
    st.integers(0, 999),
)
def test_every_word_is_read_back_at_its_place(numbers: list[int], gap_s: float, lead: int) -> None:
    samples, places = encode(numbers, gap_s)

    words = read(np.concatenate([np.zeros(lead), samples]))

    assert [word.text for word in words] == [word_text(number) for number in numbers]
    for word, place in zip(words, places, strict=True):
        assert abs(word.start - lead - place.start) <= HOP_SAMPLES
        assert abs(word.end - lead - place.end) <= HOP_SAMPLES
    assert all(before.end <= after.start + 2 * HOP_SAMPLES for before, after in pairwise(words))


def through_int16(samples: Samples) -> Samples:
    return np.round(samples * 32767) / 32768


def through_8_khz(samples: Samples) -> Samples:
    """Keep what 8 kHz can hold, as an ideal resampler would."""
    spectrum = np.fft.rfft(samples)
    spectrum[len(spectrum) // 2 :] = 0
    return np.fft.irfft(spectrum, len(samples))


def through_mu_law(samples: Samples) -> Samples:
    """8-bit telephony (ITU-T G.711's curve)."""
    mu = 255
    code = np.round(np.sign(samples) * np.log1p(mu * np.abs(samples)) / np.log1p(mu) * 127) / 127
    return np.sign(code) * np.expm1(np.abs(code) * np.log1p(mu)) / mu


def with_noise(samples: Samples) -> Samples:
    return samples + np.random.default_rng(0).normal(0, 0.07, len(samples))


@pytest.mark.parametrize(
    "distort",
    [
        through_int16,
        through_8_khz,
        through_mu_law,
        with_noise,
        lambda samples: samples * 0.02,
        lambda samples: np.clip(samples * 5, -1, 1),
    ],
    ids=["int16", "8 kHz", "mu-law", "noise", "quiet", "clipped"],
)
def test_words_survive_distortion(distort) -> None:
    numbers = [0, MAX_WORD, *range(100, 60_000, 1_777)]
    samples, _ = encode(numbers)

    words = read(distort(samples))

    assert [word.text for word in words] == [word_text(number) for number in numbers]


@pytest.mark.parametrize("cut", [100, 320, 640, 2_000])
def test_word_cut_by_an_edge_is_not_reported(cut: int) -> None:
    word = encode_word(777)
    padding = np.zeros(SAMPLE_RATE)

    assert read(np.concatenate([word[cut:], padding])) == []
    assert read(np.concatenate([padding, word[: WORD_SAMPLES - cut]])) == []


def test_word_that_just_fits_is_reported() -> None:
    (word,) = read(encode_word(777))

    assert (word.text, word.start, word.end) == ("w00777", 0, WORD_SAMPLES)


def test_noise_and_tones_without_code_give_no_words() -> None:
    rng = np.random.default_rng(0)
    time_s = np.arange(20 * SAMPLE_RATE) / SAMPLE_RATE

    assert read(rng.normal(0, 0.2, 20 * SAMPLE_RATE)) == []
    assert read(0.3 * np.sin(2 * np.pi * 600 * time_s)) == []
    assert read(0.3 * np.sin(2 * np.pi * (500 + 100 * time_s) * time_s)) == []


def test_damaged_digit_is_caught_by_the_checksum() -> None:
    good, other = encode_word(0x1234), encode_word(0x1534)
    damaged = np.concatenate([good[:1280], other[1280:1920], good[1920:]])

    assert read(damaged) == []


def test_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="65536"):
        encode_word(MAX_WORD + 1)
