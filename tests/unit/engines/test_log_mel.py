"""Kaldi's features: the numbers are kaldi-native-fbank 1.23.0's for the same audio."""

import numpy as np

from shared.speech.audio.rate import SAMPLE_RATE
from worker.diarization.features import N_MELS, log_mel_energies

SILENCE = -15.942
"""The logarithm of the least energy."""
EXPECTED = {
    0: (-9.278, -12.773, SILENCE, SILENCE, SILENCE),
    50: (-10.493, -14.559, 3.025, SILENCE, SILENCE),
    97: (-12.826, SILENCE, -13.700, -10.896, SILENCE),
}
"""By frame, the bands of BANDS."""
BANDS = [0, 20, 40, 60, 79]


def sweep() -> np.ndarray:
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    rising = 0.3 * np.sin(2 * np.pi * (200 * times + 1500 * times**2))
    return (rising + 0.01 * np.sin(2 * np.pi * 6500 * times) + 0.02).astype(np.float32)


def test_features_are_kaldis() -> None:
    found = log_mel_energies(sweep())

    assert found.shape == (98, N_MELS)
    for frame, expected in EXPECTED.items():
        np.testing.assert_allclose(found[frame, BANDS], expected, atol=0.002)


HAMMING = {
    0: (12.143, 12.329, 10.208, 9.427, 12.246),
    50: (13.138, 13.125, 23.738, 13.910, 13.889),
    97: (13.245, 13.947, 15.744, 16.545, 14.253),
}
"""torchaudio 2.11's, of the same audio as 16-bit numbers."""


def test_features_with_another_window_are_torchaudios() -> None:
    found = log_mel_energies(sweep() * np.float32(32768), "hamming")

    for frame, expected in HAMMING.items():
        np.testing.assert_allclose(found[frame, BANDS], expected, atol=0.002)


def test_long_audio_has_the_features_of_its_parts() -> None:
    audio = np.random.default_rng(1).normal(0, 0.1, 25 * SAMPLE_RATE).astype(np.float32)

    whole, later = log_mel_energies(audio), log_mel_energies(audio[12 * SAMPLE_RATE :])

    np.testing.assert_allclose(whole[1200 : 1200 + len(later)], later, atol=1e-4)


def test_audio_shorter_than_a_frame_has_no_features() -> None:
    assert log_mel_energies(np.zeros(399, np.float32)).shape == (0, N_MELS)
