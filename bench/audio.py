"""Audio of known content in any length: tone words, noise, music, and files of them."""

import io
import wave
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm
from worker.engines.oracle import MAX_WORD, WORD_SAMPLES, EncodedWord, encode, encode_word

GAP_S = 0.16
"""Between words in ``write_words``: with it there are 150 of them in a minute, as in talk."""

WORD_S = WORD_SAMPLES / SAMPLE_RATE
_BLOCK_S = 60


def write_words(path: Path, duration_s: float) -> list[int]:
    """Write about ``duration_s`` of tone words as a WAV file; return their numbers.

    They are counted through, from 0 again after the largest: only hours later does one come twice.
    """
    numbers = [n % (MAX_WORD + 1) for n in range(int(duration_s / (WORD_S + GAP_S)))]
    with path.open("wb") as file:
        write_wav(file, (to_pcm(encode(part, GAP_S)[0]) for part in _parts(numbers, 1000)))
    return numbers


def place_words(
    numbers: Sequence[int], gaps_s: Sequence[float], lead_s: float = 0
) -> tuple[Pcm, list[EncodedWord]]:
    """Write tone words with a gap after each; return the audio and where each word lies in it."""
    gaps = [round(gap_s * SAMPLE_RATE) for gap_s in gaps_s]
    position = round(lead_s * SAMPLE_RATE)
    pcm = np.zeros(position + len(numbers) * WORD_SAMPLES + sum(gaps), np.int16)
    places = []
    for number, gap in zip(numbers, gaps, strict=True):
        end = position + WORD_SAMPLES
        pcm[position:end] = to_pcm(encode_word(number))
        places.append(EncodedWord(number, position, end))
        position = end + gap
    return pcm, places


def to_pcm(samples: npt.NDArray[np.floating]) -> Pcm:
    """Audio in [-1, 1] as it is stored; what is louder is clipped."""
    return (samples.clip(-1, 1) * 32767).astype(np.int16)


def write_wav(file: BinaryIO, blocks: Iterable[Pcm]) -> None:
    """Write mono audio at our own rate as a WAV file."""
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE)
        for block in blocks:
            wav.writeframes(block.astype("<i2", copy=False).tobytes())


def wav_of(pcm: Pcm) -> BinaryIO:
    """Return a WAV file in memory."""
    file = io.BytesIO()
    write_wav(file, [pcm])
    file.seek(0)
    return file


def silence(duration_s: float) -> Iterator[Pcm]:
    """Digital silence, in blocks."""
    yield from (np.zeros(n, np.int16) for n in _lengths(duration_s))


def white_noise(duration_s: float, level_dbfs: float, seed: int = 0) -> Iterator[Pcm]:
    """Equal power at all frequencies, in blocks; the level is the RMS."""
    rng = np.random.default_rng(seed)
    for n in _lengths(duration_s):
        yield to_pcm(rng.standard_normal(n) * 10 ** (level_dbfs / 20))


def pink_noise(duration_s: float, level_dbfs: float, seed: int = 0) -> Iterator[Pcm]:
    """Power that halves per octave, as rooms and traffic have it, in blocks."""
    rng = np.random.default_rng(seed)
    for n in _lengths(duration_s):
        yield to_pcm(pink(n, rng) * 10 ** (level_dbfs / 20))


def pink(n_samples: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Pink noise of RMS 1 above 20 Hz, shape (n_samples,): white noise with its spectrum bent."""
    n_fft = 1 << (n_samples - 1).bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(n_fft))
    frequency_hz = np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE)
    bent = np.fft.irfft(spectrum / np.sqrt(frequency_hz.clip(20)), n_fft)[:n_samples]
    return np.asarray(bent / np.sqrt(np.mean(bent**2)))


def music(duration_s: float, level_dbfs: float, seed: int = 0) -> Iterator[Pcm]:
    """Chords and arpeggios of plucked and of bowed notes with vibrato, two seconds a bar."""
    rng = np.random.default_rng(seed)
    for n in _lengths(duration_s):
        bars = [_bar(rng) for _ in range(-(-n // (2 * SAMPLE_RATE)))]
        sound = np.concatenate(bars)[:n]
        yield to_pcm(sound / np.sqrt(np.mean(sound**2)) * 10 ** (level_dbfs / 20))


def _bar(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Two seconds: a minor or major chord from A2 to A4, at once or note by note."""
    time_s = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    third = rng.integers(3, 5)
    root = rng.integers(0, 24)
    broken, bowed = rng.integers(2, size=2)
    sound = np.zeros_like(time_s)
    for place, interval in enumerate((0, third, 7, 12)):
        pitch_hz = 110 * 2 ** ((root + interval) / 12)
        since_s = time_s - (place * 0.5 if broken else 0)
        # A vibrato of 5.5 Hz and a third of a semitone, as singers and strings have it.
        wobble = 0.02 / 5.5 * np.sin(2 * np.pi * 5.5 * since_s) if bowed else 0
        phase = 2 * np.pi * pitch_hz * (since_s + wobble / (2 * np.pi))
        swell = np.minimum(since_s / 0.15, 1) if bowed else np.exp(-3 * since_s)
        note = sum(np.sin(k * phase) / k for k in range(1, 9))
        sound += np.where(since_s >= 0, note * swell, 0)
    return sound


def _lengths(duration_s: float) -> Iterator[int]:
    """Lengths in samples of the blocks that make up a duration."""
    left = round(duration_s * SAMPLE_RATE)
    while left > 0:
        yield min(left, _BLOCK_S * SAMPLE_RATE)
        left -= _BLOCK_S * SAMPLE_RATE


def _parts(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for first in range(0, len(numbers), size):
        yield numbers[first : first + size]
