"""The peaks of audio: as many as a screen needs, wherever blocks end."""

import numpy as np
import pytest

from worker.media.peaks import FIRST_SAMPLES, MOST, PeakMeter, merge


def measured(samples: np.ndarray, block: int) -> np.ndarray:
    meter = PeakMeter()
    for start in range(0, len(samples), block):
        meter.push(samples[start : start + block])
    return meter.peaks()


@pytest.mark.parametrize("spans", [1, MOST - 1, MOST, 3 * MOST, 9 * MOST + 7])
def test_peaks_stay_few_and_are_where_the_sound_is(spans: int) -> None:
    samples = np.zeros(spans * FIRST_SAMPLES, np.int16)
    loud = len(samples) * 2 // 3
    samples[loud] = -32_768
    peaks = measured(samples, 16_000)
    assert len(peaks) <= MOST
    assert len(peaks) >= min(spans, MOST // 2)
    (at,) = np.flatnonzero(peaks)
    assert peaks[at] == 255
    assert at == loud * len(peaks) // len(samples)


def test_peaks_do_not_depend_on_where_blocks_end() -> None:
    samples = np.random.default_rng(1).integers(-9000, 9000, 1_000_003).astype(np.int16)
    expected = measured(samples, len(samples))
    for block in (997, 16_000, 700_001):
        assert (measured(samples, block) == expected).all()


def test_channels_together_have_the_loudest_of_each() -> None:
    left, right = PeakMeter(), PeakMeter()
    left.push(np.repeat(np.array([0, 16_384], np.int16), FIRST_SAMPLES))
    right.push(np.repeat(np.array([32_767, 0], np.int16), FIRST_SAMPLES))
    assert list(merge([left, right])) == [254, 127]
    assert merge([]) == b""
