"""An engine whose transcript is an exact function of the samples, for tests and benchmarks.

Words are numbers written as tones, so a test sees every word that is lost, doubled or moved, and
there are no recognition errors. One word is six symbols of 40 ms, each a single sine:

    marker | four hexadecimal digits of the number, highest first | checksum digit

It survives resampling to 8 kHz, lossy codecs, other gains and mild noise. All tones lie between 600
and 3,050 Hz, six Fourier bins of a symbol apart; a symbol is longer than a transform block of MP3
or Opus; and a symbol is read by the *share* of its energy that lies in one tone.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis
from worker.engines.protocol import DecodeOptions, EngineOf, Prepared

SYMBOL_SAMPLES = 640
"""40 ms: a Fourier bin is 25 Hz wide, and each tone below has whole periods in a symbol."""
TONES_HZ = np.array([600, *range(800, 3_200, 150)], dtype=np.float64)
"""The marker's tone and those of the digits 0 to 15."""
WORD_SYMBOLS = 6
WORD_SAMPLES = WORD_SYMBOLS * SYMBOL_SAMPLES
MAX_WORD = 0xFFFF
"""The largest number that four hexadecimal digits hold."""
AMPLITUDE = 0.3

HOP_SAMPLES = 40
"""2.5 ms between the positions at which the decoder looks for a word."""
_SYMBOL_HOPS = SYMBOL_SAMPLES // HOP_SAMPLES
_WORD_HOPS = WORD_SYMBOLS * _SYMBOL_HOPS
_MIN_SYMBOL_SHARE = 0.5
_MIN_WORD_SHARE = 0.65
"""Least share of energy in the right tone: half in each symbol, two thirds over the word. Voices
and noise spread their energy over more tones. A signal 6 dB above the noise passes."""
_MIN_RMS = 3e-4
"""-70 dBFS: quieter audio is silence, whatever its spectrum is."""


class EncodedWord(NamedTuple):
    """A word's number and its place, samples [start, end)."""

    number: int
    start: int
    end: int


def word_text(number: int) -> str:
    """Return the word as it appears in transcripts, such as 'w00042'."""
    return f"w{number:05d}"


def encode_word(number: int) -> Samples:
    """Write a number from 0 to ``MAX_WORD`` as tones, shape (WORD_SAMPLES,).

    Raises:
        ValueError: the number does not fit.
    """
    if not 0 <= number <= MAX_WORD:
        raise ValueError(f"{number} is not in [0, {MAX_WORD}]")
    digits = [number >> shift & 0xF for shift in (12, 8, 4, 0)]
    tones = [0, *(1 + digit for digit in (*digits, _checksum(digits)))]
    # Symbols have whole periods, so the wave is zero where the tone changes: no clicks.
    time_s = np.arange(SYMBOL_SAMPLES) / SAMPLE_RATE
    wave = AMPLITUDE * np.sin(2 * np.pi * TONES_HZ[tones][:, None] * time_s)
    return wave.astype(np.float32).reshape(-1)


def encode(words: Sequence[int], gap_s: float = 0.1) -> tuple[Samples, list[EncodedWord]]:
    """Write numbers one after another with silence before, between and after them.

    Returns:
        The samples, shape (gap + n * (WORD_SAMPLES + gap),), and the place of each word in them.
    """
    gap = round(gap_s * SAMPLE_RATE)
    samples = np.zeros(gap + len(words) * (WORD_SAMPLES + gap), dtype=np.float32)
    places = []
    for index, number in enumerate(words):
        start = gap + index * (WORD_SAMPLES + gap)
        samples[start : start + WORD_SAMPLES] = encode_word(number)
        places.append(EncodedWord(number, start, start + WORD_SAMPLES))
    return samples, places


class _Sound(NamedTuple):
    samples: Samples
    language: str | None


class OracleEngine(EngineOf[_Sound, Hypothesis]):
    """Reads what ``encode`` wrote, without words that the samples' edges cut off."""

    device = "cpu"
    dtype = "float64"
    version = "oracle 1"
    weights_digest = f"sha256:{hashlib.sha256(version.encode()).hexdigest()}"
    """A digest of the version: there are no weights, and output changes with the version only."""
    max_batch = 4

    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[_Sound] | Hypothesis:
        """Take an item as it is; items of one language share calls."""
        sound = _Sound(samples, options.language)
        return Prepared(sound, self.window_samples, group=options.language)

    def infer(self, batch: Sequence[Prepared[_Sound]]) -> list[Hypothesis | Prepared[_Sound]]:
        """Read the words of each item; the language is the one asked for."""
        return [
            Hypothesis(tuple(_decode(item.input.samples)), item.input.language) for item in batch
        ]

    def finish(self, raw: Hypothesis) -> Hypothesis:
        """Return the words as they were read."""
        return raw


def _checksum(digits: Sequence[int]) -> int:
    """Return a digit that changes with any one digit, as odd weights are invertible mod 16."""
    weighted = (weight * digit for weight, digit in zip((1, 3, 5, 7), digits, strict=True))
    return (9 + sum(weighted)) % 16


def _decode(samples: Samples) -> list[WordHypothesis]:
    shares = _tone_shares(samples)
    n_positions = len(shares) - (_WORD_HOPS - _SYMBOL_HOPS)
    if n_positions <= 0:
        return []
    digits = shares[:, 1:].argmax(axis=1)
    digit_shares = shares[:, 1:].max(axis=1)
    symbols = [shares[:n_positions, 0]] + [
        digit_shares[at : at + n_positions] for at in range(_SYMBOL_HOPS, _WORD_HOPS, _SYMBOL_HOPS)
    ]
    score = np.mean(symbols, axis=0)
    score[(np.min(symbols, axis=0) < _MIN_SYMBOL_SHARE) | (score < _MIN_WORD_SHARE)] = 0.0

    words: list[WordHypothesis] = []
    position = 0
    while (ahead := np.flatnonzero(score[position:])).size:
        # A word scores at all positions near its start, and best at the start itself.
        first = position + int(ahead[0])
        best = first + int(score[first : first + _SYMBOL_HOPS].argmax())
        position = best + _SYMBOL_HOPS
        *number, checksum = (
            int(digits[best + at]) for at in range(_SYMBOL_HOPS, _WORD_HOPS, _SYMBOL_HOPS)
        )
        start = round((best + _peak_offset(score, best)) * HOP_SAMPLES) - SYMBOL_SAMPLES
        end = start + WORD_SAMPLES
        whole = start > -HOP_SAMPLES and end < len(samples) + HOP_SAMPLES
        if whole and checksum == _checksum(number):
            position = best + _WORD_HOPS - 2
            text = word_text(int("".join(f"{digit:x}" for digit in number), 16))
            confidence = min(1.0, float(score[best]))
            words.append(WordHypothesis(text, max(0, start), min(end, len(samples)), confidence))
    return words


def _tone_shares(samples: Samples) -> npt.NDArray[np.float64]:
    """Return the share of energy in each tone, shape (n_hops, n_tones), in [0, 1].

    Row h is the symbol that starts at sample h * HOP_SAMPLES - SYMBOL_SAMPLES. The samples are
    padded by a symbol on both sides, so a word that is cut at an edge is placed beyond it.
    Sums over blocks of one hop are accumulated, and a window is the difference of two totals.
    """
    n_hops = -(-len(samples) // HOP_SAMPLES)
    padded = np.zeros((n_hops + 2 * _SYMBOL_HOPS) * HOP_SAMPLES, dtype=np.float32)
    padded[SYMBOL_SAMPLES : SYMBOL_SAMPLES + len(samples)] = samples
    blocks = padded.reshape(-1, HOP_SAMPLES)
    turn = -2j * np.pi * TONES_HZ / SAMPLE_RATE
    wave = np.exp(np.arange(HOP_SAMPLES)[:, None] * turn)
    parts = blocks @ wave.real.astype(np.float32) + 1j * (blocks @ wave.imag.astype(np.float32))
    # Tones have whole periods in a symbol, so a block's phase repeats with every symbol.
    phase = np.exp(np.arange(_SYMBOL_HOPS)[:, None] * HOP_SAMPLES * turn)
    parts *= np.tile(phase, (len(parts) // _SYMBOL_HOPS + 1, 1))[: len(parts)]
    energy = np.einsum("ij,ij->i", blocks, blocks, dtype=np.float64)
    in_tone = np.abs(_window_sums(parts)) ** 2
    in_all = _window_sums(energy[:, None])
    audible = in_all > _MIN_RMS**2 * SYMBOL_SAMPLES
    # A pure tone of amplitude a has |sum|^2 = (a * n / 2)^2 and energy a^2 * n / 2.
    return np.where(audible, in_tone / np.maximum(in_all, 1e-12) * (2 / SYMBOL_SAMPLES), 0.0)


def _window_sums(blocks: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sum every run of one symbol's blocks along the first axis."""
    totals = np.cumsum(np.concatenate([np.zeros_like(blocks[:1]), blocks]), axis=0)
    windows: npt.NDArray[Any] = totals[_SYMBOL_HOPS:] - totals[:-_SYMBOL_HOPS]
    return windows


def _peak_offset(score: npt.NDArray[np.float64], best: int) -> float:
    """Return a peak's offset from its position, in hops (-0.5 to 0.5), by a parabola."""
    if not 0 < best < len(score) - 1:
        return 0.0
    left, peak, right = score[best - 1 : best + 2]
    bend = left - 2 * peak + right
    return float(0.5 * (left - right) / bend) if left and right and bend else 0.0
