"""The dozen sentences that are committed, so that tests need no speech synthesis."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from tests.models.recipe.data import SAMPLE_RATE, VOICES, Line, noise, speak

N_SENTENCES, N_WORDS = 12, 5
SPEECH_TO_NOISE_DB = (20, 30)
"""Of every third sentence; the others are clean."""


def write_heldout(words: Sequence[str], folder: Path, seed: int) -> None:
    """Speak sentences of random words, voices in turn, with a quarter second of silence around."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    dealt = rng.permutation(words)[: N_SENTENCES * N_WORDS].reshape(N_SENTENCES, N_WORDS)
    for i, chosen in enumerate(dealt):
        line = Line(" ".join(chosen), VOICES[i % len(VOICES)], float(rng.uniform(0.9, 1.2)))
        audio = np.pad(speak(line).audio, SAMPLE_RATE // 4)
        if i % 3 == 2:
            below_db = rng.uniform(*SPEECH_TO_NOISE_DB)
            level = np.sqrt(np.mean(audio**2)) * 10 ** (-below_db / 20)
            audio = (audio + noise(len(audio), rng) * np.float32(level)).clip(-1, 1)
        name = f"{i + 1:02d}-{line.voice}"
        soundfile.write(folder / f"{name}.flac", audio, SAMPLE_RATE, subtype="PCM_16")
        (folder / f"{name}.txt").write_text(line.text + "\n", encoding="utf-8")
