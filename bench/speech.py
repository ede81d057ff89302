"""Speech whose words are known, of any length: the repository's clips in random order."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.audio import pink
from bench.pipeline import as_float, read
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.audio.spans import Span

ROOT = Path(__file__).resolve().parent.parent
HELDOUT = ROOT / "tests/models/heldout"
SAMPLES = ROOT / "samples"

FRAME_SAMPLES = SAMPLE_RATE // 50
"""Speech is labelled in frames of 20 ms."""
SPEECH_RANGE_DB = 35
"""How far below the loudest frame of a clean clip a frame may be and still be speech: weak
fricatives are some 30 dB below the loudest vowels (Fletcher 1953)."""
CLEAN_DB = 50
"""In a clean clip the quietest frames are further below the loudest than this."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording and what is said in it."""

    text: str
    samples: Samples


@dataclass(frozen=True, slots=True)
class Recital:
    """Clips one after another."""

    samples: Samples
    spans: list[Span]
    """Where each clip lies."""
    texts: list[str]

    @property
    def text(self) -> str:
        """All that is said."""
        return " ".join(self.texts)


@cache
def heldout() -> tuple[Clip, ...]:
    """The twelve sentences that the models of ``tests/models`` were not trained on."""
    return tuple(_clips(HELDOUT, "*.flac"))


@cache
def sentences() -> tuple[Clip, ...]:
    """The same and the samples: all speech there is here."""
    return (*heldout(), *_clips(SAMPLES, "*.wav"), *_clips(SAMPLES, "*.mp3"))


def _clips(folder: Path, pattern: str) -> Iterator[Clip]:
    for path in sorted(folder.glob(pattern)):
        with path.open("rb") as file:
            samples = as_float(np.concatenate(list(read(file))))
        yield Clip(path.with_suffix(".txt").read_text(encoding="utf-8").strip(), samples)


def recite(
    clips: tuple[Clip, ...],
    duration_s: float,
    rng: np.random.Generator,
    gaps_s: tuple[float, float] = (0.3, 3.0),
) -> Recital:
    """Say clips in random order, a random gap after each, until the time is over."""
    parts: list[Samples] = []
    spans, texts = [], []
    position = 0
    while position < duration_s * SAMPLE_RATE:
        clip = clips[rng.integers(len(clips))]
        gap = np.zeros(round(rng.uniform(*gaps_s) * SAMPLE_RATE), np.float32)
        spans.append(Span(position, position + len(clip.samples)))
        texts.append(clip.text)
        parts += [clip.samples, gap]
        position += len(clip.samples) + len(gap)
    return Recital(np.concatenate(parts), spans, texts)


def add_noise(
    samples: Samples, snr_db: float, colour: str, rng: np.random.Generator, level: float
) -> Samples:
    """Add 'white' or 'pink' noise ``snr_db`` below ``level``, an RMS."""
    n = len(samples)
    noise = pink(n, rng) if colour == "pink" else rng.standard_normal(n)
    return (samples + noise * level * 10 ** (-snr_db / 20)).astype(np.float32)


def levels_db(samples: Samples) -> npt.NDArray[np.float64]:
    """Level of each whole frame, shape (n_frames,), in dB below full scale."""
    whole = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].astype(np.float64)
    power = np.square(whole.reshape(-1, FRAME_SAMPLES)).mean(axis=1)
    return np.asarray(10 * np.log10(power + 1e-12))


def is_clean(clip: Clip) -> bool:
    """Whether its pauses are quiet, so that its level says where speech is."""
    levels = levels_db(clip.samples)
    return bool(np.percentile(levels, 5) < levels.max() - CLEAN_DB)


def label(recital: Recital) -> npt.NDArray[np.bool_]:
    """Say for each sample whether it is speech, by the level of its frame within its clip."""
    speech = np.zeros(len(recital.samples), bool)
    for span in recital.spans:
        levels = levels_db(recital.samples[span.start : span.end])
        loud = np.repeat(levels > levels.max() - SPEECH_RANGE_DB, FRAME_SAMPLES)
        speech[span.start : span.start + len(loud)] = loud
    return speech
