"""Recordings with the same words but other cuts, speeds and noise.

A model hears the same speech a little differently in each, so a single recording says little about
a way to transcribe; all variants together say more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm


@dataclass(frozen=True, slots=True)
class Recording:
    """Audio and what is said in it."""

    name: str
    pcm: Pcm
    text: str


Variant = Callable[[Sequence[Recording]], list[Recording]]


def join(recordings: Sequence[Recording], gap_s: float) -> Recording:
    """Return all recordings as one, with silence between them."""
    gap = np.zeros(round(gap_s * SAMPLE_RATE), np.int16)
    pcm = np.concatenate([part for each in recordings for part in (each.pcm, gap)])
    text = " ".join(each.text for each in recordings)
    return Recording("(joined)", pcm[: len(pcm) - len(gap)], text)


def without_start(pcm: Pcm, seconds: float) -> Pcm:
    """Return audio without its beginning, which moves all cuts."""
    return pcm[round(seconds * SAMPLE_RATE) :]


def at_speed(pcm: Pcm, speed: float) -> Pcm:
    """Return audio played faster; pitch rises with it, as on a tape."""
    n_samples = int(len(pcm) / speed)
    return np.interp(np.arange(n_samples) * speed, np.arange(len(pcm)), pcm).astype(np.int16)


def with_noise(pcm: Pcm, snr_db: float) -> Pcm:
    """Return audio with white noise so many decibels below its RMS."""
    samples = pcm.astype(np.float64)
    rms = np.sqrt(np.square(samples).mean())
    noise = np.random.default_rng(0).standard_normal(len(pcm)) * rms * 10 ** (-snr_db / 20)
    return (samples + noise).clip(-32768, 32767).astype(np.int16)


def at_level(pcm: Pcm, gain_db: float) -> Pcm:
    """Return audio at another level, in whole steps of 16 bits."""
    return np.round(pcm * 10 ** (gain_db / 20)).clip(-32768, 32767).astype(np.int16)


def _each(change: Callable[[Pcm], Pcm]) -> Variant:
    return lambda recordings: [replace(each, pcm=change(each.pcm)) for each in recordings]


def _joined(recordings: Sequence[Recording]) -> list[Recording]:
    """Join them in four orders, each with pauses of its own."""
    turned = [*recordings[len(recordings) // 2 :], *recordings[: len(recordings) // 2]]
    orders = (recordings, recordings[::-1], turned, turned[::-1])
    return [join(order, gap_s) for order, gap_s in zip(orders, (1.0, 0.3, 0.6, 2.0), strict=True)]


VARIANTS: dict[str, Variant] = {
    "as they are": list,
    "joined in four orders": _joined,
    "without their first 0.4 s": _each(lambda pcm: without_start(pcm, 0.4)),
    "without their first 1.1 s": _each(lambda pcm: without_start(pcm, 1.1)),
    "without their first 2.3 s": _each(lambda pcm: without_start(pcm, 2.3)),
    "a tenth faster": _each(lambda pcm: at_speed(pcm, 1.1)),
    "a tenth slower": _each(lambda pcm: at_speed(pcm, 0.9)),
    "white noise 20 dB below": _each(lambda pcm: with_noise(pcm, 20.0)),
}
