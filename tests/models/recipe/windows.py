"""Training windows: sentences laid into silence, with noise over all of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tests.models.recipe.data import SAMPLE_RATE, Audio, Clip, add_noise, noise, roughen

EMPTY = 0.15
"""How many of the long windows hold no speech, so that models learn to stay quiet."""
NOISY_ALONE = 0.3
"""How many sentences of a long window have noise of their own, as one speaker of several may."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the curriculum: what its windows hold."""

    n_steps: int
    batch_size: int
    lengths: tuple[int, ...]
    """Words in a sentence."""
    n_sentences: int = 1
    """The most sentences in a window; with one, windows are cut to fit."""
    window_s: float = 0.0
    cut: bool = False
    """Whether windows end soon after their last sentence, rather than being equally long."""
    gentle: bool = False
    """Whether CTC models hear nearly what is there (``perturb``), as they do in the end."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is said in a window, and when, in seconds."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Window:
    """One training example."""

    audio: Audio
    sentences: tuple[Sentence, ...]

    @property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)


def fill_window(stage: Stage, clips: Iterator[Clip], rng: np.random.Generator) -> Window:
    """Lay sentences into a window, with pauses; some long windows stay empty."""
    if stage.n_sentences == 1:
        clip, lead_s = next(clips), rng.uniform(0, 0.5)
        wanted = [(clip, lead_s)]
        n_samples = round((lead_s + rng.uniform(0, 0.5)) * SAMPLE_RATE) + len(clip.pcm)
    else:
        n_samples = round(stage.window_s * SAMPLE_RATE)
        if rng.random() < EMPTY:
            return Window(hush(n_samples, rng), ())
        n_sentences = rng.integers(1, stage.n_sentences + 1)
        longest_s = 2 * stage.window_s / (n_sentences + 4)
        wanted = [
            (next(clips), rng.choice([rng.uniform(0, 0.8), rng.uniform(0, longest_s)]))
            for _ in range(n_sentences)
        ]
    audio, sentences, at = np.zeros(n_samples, np.float32), [], 0
    for clip, pause_s in wanted:
        start = at + round(pause_s * SAMPLE_RATE)
        if start + len(clip.pcm) > n_samples:
            break
        at = start + len(clip.pcm)
        audio[start:at] = clip.audio * np.float32(10 ** (rng.uniform(-6, 0) / 20))
        if rng.random() < NOISY_ALONE:
            before, after = (round(margin * SAMPLE_RATE) for margin in rng.uniform(0, 0.4, 2))
            around = slice(max(0, start - before), at + after)
            audio[around] = add_noise(audio[around], rng)
        sentences.append(Sentence(clip.text, start / SAMPLE_RATE, at / SAMPLE_RATE))
    if stage.cut and sentences:
        audio = audio[: at + round(rng.uniform(0, 1) * SAMPLE_RATE)]
    return Window(roughen(audio, rng), tuple(sentences))


def hush(n_samples: int, rng: np.random.Generator) -> Audio:
    """Return silence, noise or music, from hardly audible to loud."""
    kind = rng.random()
    if kind < 0.2:
        return np.zeros(n_samples, np.float32)
    if kind < 0.6:
        level = np.float32(10 ** (rng.uniform(-80, -10) / 20))
        return (noise(n_samples, rng) * level).clip(-1, 1)
    return music(n_samples, rng) * np.float32(10 ** (rng.uniform(-40, 0) / 20))


def music(n_samples: int, rng: np.random.Generator) -> Audio:
    """Return up to four voices of plucked, blown or bowed notes, as loud as may be."""
    sound = np.zeros(n_samples, np.float32)
    for _ in range(rng.integers(1, 5)):
        at = 0
        while at < n_samples:
            n = min(round(rng.uniform(0.1, 2.0) * SAMPLE_RATE), n_samples - at)
            time_s = np.arange(n, dtype=np.float32) / SAMPLE_RATE
            pitch_hz = 80 * 2 ** (rng.uniform(0, 48) / 12)
            wobble_s = rng.uniform(0, 0.01) / pitch_hz * np.sin(rng.uniform(25, 45) * time_s)
            phase = 2 * np.pi * pitch_hz * (time_s + wobble_s)
            n_harmonics = int(min(rng.integers(1, 10), 7_000 // pitch_hz))
            harmonics = range(1, n_harmonics + 1)
            note = sum(np.sin(k * phase) / k ** rng.uniform(0.5, 2) for k in harmonics)
            plucked = rng.random() < 0.5
            swell = np.exp(-rng.uniform(1, 8) * time_s) if plucked else (time_s / 0.1).clip(max=1)
            sound[at : at + n] += note * swell
            at += n + round(rng.choice([0.0, rng.uniform(0, 0.5)]) * SAMPLE_RATE)
    return (sound / np.abs(sound).max()).astype(np.float32)


def stack(windows: Sequence[Window]) -> tuple[Tensor, Tensor]:
    """Return (n, longest) samples, padded with silence, and each window's own length (n,).

    The longest is an even number of 10 ms frames.
    """
    lengths = torch.tensor([len(window.audio) for window in windows])
    longest = int(lengths.max())
    audio = torch.zeros(len(windows), longest + -longest % 320)
    for row, window in zip(audio, windows, strict=True):
        row[: len(window.audio)] = torch.from_numpy(window.audio)
    return audio, lengths
