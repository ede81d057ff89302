"""Spoken sentences to train on: random words from a list, in five synthetic voices.

Flite and eSpeak NG speak them; speed varies here, noise and gain at every use of a clip, so that no
batch is seen twice. Everything follows from the seed: the same programs speak the same samples.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import resample_poly

SAMPLE_RATE = 16_000
FLITE_VOICES = ("slt", "rms", "awb")
ESPEAK_VOICES = ("en-us", "en-us+f3")
VOICES = FLITE_VOICES + ESPEAK_VOICES
SLOWEST, FASTEST = 0.8, 1.25
"""Speaking rates, relative to a voice's own."""
ESPEAK_WORDS_PER_MINUTE = 165
LONG_NOISE_S = 200
"""Noise is cut from recordings of that length: to make it anew took a tenth of the time."""
TRAINED_LENGTHS = {1: 2_500, 3: 6_000, 5: 6_000, 9: 10_000}
"""Words in a sentence -> how many such sentences are spoken for training."""

Audio = npt.NDArray[np.float32]
"""Mono, shape (n_samples,), in [-1, 1], at SAMPLE_RATE."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One spoken sentence, without the silence before and after it."""

    text: str
    voice: str
    pcm: npt.NDArray[np.int16]

    @property
    def audio(self) -> Audio:
        return self.pcm.astype(np.float32) / 32768


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence to be spoken, and how."""

    text: str
    voice: str
    rate: float


def read_words(path: Path) -> list[str]:
    """Return the words of a list, one a line."""
    return path.read_text(encoding="utf-8").split()


def write_lines(words: Sequence[str], lengths: dict[int, int], seed: int) -> list[Line]:
    """Make up sentences: words and voices take turns in random order, so that all come up alike."""
    rng = np.random.default_rng(seed)
    lines = []
    for n_words, n_lines in lengths.items():
        deals = -(-n_lines * n_words // len(words))
        dealt = np.concatenate([rng.permutation(words) for _ in range(deals)])
        for i in range(n_lines):
            text = " ".join(dealt[i * n_words : (i + 1) * n_words])
            rate = float(np.exp(rng.uniform(np.log(SLOWEST), np.log(FASTEST))))
            lines.append(Line(text, VOICES[rng.integers(len(VOICES))], rate))
    return lines


def speak(line: Line) -> Clip:
    """Have a line spoken and cut off the silence around it."""
    with TemporaryDirectory() as folder:
        wav = str(Path(folder) / "line.wav")
        if line.voice in FLITE_VOICES:
            stretch = f"duration_stretch={1 / line.rate:.3f}"
            command = ["flite", "-voice", line.voice, "--setf", stretch, "-t", line.text, "-o", wav]
        else:
            speed = str(round(ESPEAK_WORDS_PER_MINUTE * line.rate))
            command = ["espeak-ng", "-v", line.voice, "-s", speed, "-w", wav, line.text]
        subprocess.run(command, check=True, capture_output=True)
        audio, rate = soundfile.read(wav, dtype="float32")
    if rate != SAMPLE_RATE:
        divisor = int(np.gcd(rate, SAMPLE_RATE))
        audio = resample_poly(audio, SAMPLE_RATE // divisor, rate // divisor)
    pcm = np.round(_trim(audio) * 32767).clip(-32768, 32767).astype(np.int16)
    return Clip(line.text, line.voice, pcm)


def speak_all(lines: Sequence[Line], n_processes: int = 2) -> list[Clip]:
    """Have all lines spoken, in their order."""
    with ProcessPoolExecutor(n_processes) as pool:
        return list(pool.map(speak, lines, chunksize=32))


def save_clips(clips: Sequence[Clip], path: Path) -> None:
    """Write clips as one file of samples and an index."""
    index = [(clip.text, clip.voice, len(clip.pcm)) for clip in clips]
    np.savez(path, pcm=np.concatenate([clip.pcm for clip in clips]), index=json.dumps(index))


def load_clips(path: Path) -> list[Clip]:
    """Read what ``save_clips`` wrote."""
    with np.load(path) as file:
        pcm, index = file["pcm"], json.loads(str(file["index"]))
    ends = np.cumsum([n_samples for _, _, n_samples in index])
    return [
        Clip(text, voice, pcm[end - n_samples : end])
        for (text, voice, n_samples), end in zip(index, ends, strict=True)
    ]


def roughen(audio: Audio, rng: np.random.Generator) -> Audio:
    """Change the level, and every second time add hiss or rumble 10 to 40 dB below the speech."""
    audio = audio * np.float32(10 ** (rng.uniform(-20, 0) / 20) / max(np.abs(audio).max(), 1e-3))
    if rng.random() < 0.5:
        audio = add_noise(audio, rng)
    return audio.clip(-1, 1)


def add_noise(audio: Audio, rng: np.random.Generator) -> Audio:
    """Add hiss or rumble 10 to 40 dB below what is heard."""
    heard = audio[audio != 0]
    rms = float(np.sqrt(np.mean(heard**2))) if heard.size else 0.1
    return audio + noise(len(audio), rng) * np.float32(rms * 10 ** (-rng.uniform(10, 40) / 20))


def noise(n_samples: int, rng: np.random.Generator) -> Audio:
    """Return some of four long noises of unit power: white, or low-passed to any degree."""
    long = _long_noise(int(rng.choice([0, 4, 16, 64])))
    at = rng.integers(len(long) - n_samples)
    return long[at : at + n_samples]


@cache
def _long_noise(smooth: int) -> Audio:
    n_samples = LONG_NOISE_S * SAMPLE_RATE
    white = np.random.default_rng(smooth).standard_normal(n_samples, dtype=np.float32)
    if smooth:
        spectrum = np.fft.rfft(white)
        spectrum /= np.sqrt(1 + (np.arange(len(spectrum)) / len(spectrum) * smooth) ** 2)
        white = np.fft.irfft(spectrum, n_samples).astype(np.float32)
    return white / white.std()


def pick(clips: Sequence[Clip], rng: np.random.Generator) -> Iterator[Clip]:
    """Yield clips for ever: all of them in random order, and again."""
    while True:
        yield from (clips[i] for i in rng.permutation(len(clips)))


def _trim(audio: Audio, margin_s: float = 0.03) -> Audio:
    """Cut off what is 40 dB below the peak at both ends, but for a margin."""
    loud = np.flatnonzero(np.abs(audio) > 0.01 * np.abs(audio).max())
    margin = round(margin_s * SAMPLE_RATE)
    return audio[max(loud[0] - margin, 0) : loud[-1] + margin]
