"""Features made on the device are the library's own."""

import numpy as np
import pytest
from transformers import SeamlessM4TFeatureExtractor, WhisperFeatureExtractor

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from worker.engines.ctc.kaldi_filters import KaldiFilters
from worker.engines.ctc.transformers_ctc import DITHER, NOISE_SAMPLES, _dither
from worker.engines.whisper.log_mel import LogMel


@pytest.fixture(scope="module")
def items() -> list[Samples]:
    """Tones in noise, of several lengths; one is digital silence in part."""
    rng = np.random.default_rng(2)
    made = []
    for n_samples in (1_600, 40_001, 3 * SAMPLE_RATE):
        times = np.arange(n_samples) / SAMPLE_RATE
        tones = sum(0.2 * np.sin(2 * np.pi * hz * times) for hz in (210, 1_300, 4_000))
        made.append((tones + rng.normal(0, 0.01, n_samples)).astype(np.float32))
    made[-1][SAMPLE_RATE:] = 0.0
    return made


@pytest.mark.parametrize("n_bands", [80, 128])
def test_whisper_hears_what_the_library_has_it_hear(items: list[Samples], n_bands: int) -> None:
    extractor = WhisperFeatureExtractor(feature_size=n_bands)
    expected = extractor(items, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features

    heard = LogMel(extractor, "cpu")(items)

    assert heard.shape == (len(items), n_bands, 3_000)
    assert heard.numpy() == pytest.approx(expected, abs=1e-5)


def test_whisper_hears_no_more_than_its_window() -> None:
    extractor = WhisperFeatureExtractor(feature_size=80)
    long = np.random.default_rng(1).normal(0, 0.1, 31 * SAMPLE_RATE).astype(np.float32)

    whole, cut = LogMel(extractor, "cpu")([long, long[: 30 * SAMPLE_RATE]])

    assert whole.equal(cut)


@pytest.mark.parametrize("padding_value", [0.0, 1.0])
def test_w2v_bert_hears_what_the_library_has_it_hear(
    items: list[Samples], padding_value: float
) -> None:
    extractor = SeamlessM4TFeatureExtractor(padding_value=padding_value)
    dithered = [_dither(item) for item in items]
    expected = extractor(dithered, sampling_rate=SAMPLE_RATE, return_tensors="np")

    heard = KaldiFilters(extractor, "cpu")(dithered)

    assert heard["attention_mask"].tolist() == expected["attention_mask"].tolist()
    assert heard["input_features"].numpy() == pytest.approx(expected["input_features"], abs=3e-4)


def test_equal_audio_has_equal_noise_under_it_whatever_its_length() -> None:
    longer = np.zeros(NOISE_SAMPLES + 100, np.float32)

    noise = _dither(longer)

    assert np.array_equal(_dither(longer[:1_000]), noise[:1_000])
    drawn = np.random.default_rng(0).standard_normal(1_000, np.float32)
    assert np.array_equal(noise[:1_000], np.float32(DITHER) * drawn)
    assert not np.array_equal(noise[:1_000], noise[1_000:2_000])
