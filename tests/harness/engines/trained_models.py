"""The models of tests/models, and the sentences that none of them was trained on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.models.catalogue import Catalogue, load_catalogue
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from worker.media.decode import decode

MODELS = Path(__file__).parents[2] / "models"
CATALOGUE = MODELS / "models.toml"
WHISPERS = ("tiny-whisper", "tiny-whisper-ct2")
CTCS = ("tiny-conformer", "tiny-w2v-bert")
TRANSDUCERS = ("tiny-transducer",)
FRAMEWISE = CTCS + TRANSDUCERS
"""Networks that emit symbols frame by frame, and so know when words are spoken."""
MOST_WORD_ERRORS = 0.03
"""Word error rate on held-out sentences of the voices that the models were trained on."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is said, and its sound."""

    text: str
    samples: Samples


def catalogue() -> Catalogue:
    """Return the entries of the trained models."""
    return load_catalogue(CATALOGUE)


def heldout() -> list[Sentence]:
    """Return the sentences of tests/models/heldout."""
    return [
        Sentence(path.with_suffix(".txt").read_text().strip(), read(path))
        for path in sorted((MODELS / "heldout").glob("*.flac"))
    ]


def read(path: Path) -> Samples:
    """Decode a file as a worker does."""
    with path.open("rb") as file:
        pcm = np.concatenate([*decode(file, 3600)], axis=1)[0]
    return pcm.astype(np.float32) / 32768


def recite(sentences: list[Sentence], pause_s: float = 1.0) -> tuple[Sentence, list[int]]:
    """Say sentences one after another, a pause after each; also return where each begins."""
    pause = np.zeros(round(pause_s * SAMPLE_RATE), np.float32)
    starts = np.cumsum([0, *(len(s.samples) + len(pause) for s in sentences)])[:-1]
    samples = np.concatenate([part for s in sentences for part in (s.samples, pause)])
    return Sentence(" ".join(s.text for s in sentences), samples), [int(s) for s in starts]
