"""Training with the CTC loss alone, shared by the w2v-BERT and the conformer."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models.recipe.checkpoints import resume, save
from tests.models.recipe.curriculum import LENGTHS, Curriculum
from tests.models.recipe.data import Clip, pick
from tests.models.recipe.optimizers import make_optimizers
from tests.models.recipe.windows import Stage, Window, fill_window, stack

log = logging.getLogger(__name__)

SENTENCES = (Stage(150, 48, (1,)), Stage(200, 48, (1, 3)), Stage(1_000, 32, LENGTHS))
"""How both curricula begin."""


def ctc_loss(
    log_probs: Tensor, n_frames: Tensor, texts: Sequence[Sequence[int]], blank: int
) -> Tensor:
    """Return the mean over items, per token, of (n, frames, classes) log-probabilities."""
    flat = torch.tensor([token for text in texts for token in text], dtype=torch.long)
    n_tokens = torch.tensor([len(text) for text in texts])
    return functional.ctc_loss(
        log_probs.transpose(0, 1), flat, n_frames, n_tokens, blank=blank, zero_infinity=True
    )


def draw(
    stage: Stage, n_sorted: int, clips: Iterator[Clip], rng: np.random.Generator
) -> Iterator[list[Window]]:
    """Yield batches of windows; of ``n_sorted`` in a row, each has about equally long ones."""
    while True:
        pool = [fill_window(stage, clips, rng) for _ in range(n_sorted * stage.batch_size)]
        pool.sort(key=lambda window: len(window.audio))
        for i in rng.permutation(n_sorted):
            yield pool[i * stage.batch_size : (i + 1) * stage.batch_size]


class Trainee(nn.Module, ABC):
    """A network, and what it is told about its mistakes."""

    @property
    @abstractmethod
    def heads(self) -> Sequence[nn.Module]:
        """Its layers whose rows are classes."""

    @abstractmethod
    def loss(self, audio: Tensor, lengths: Tensor, texts: Sequence[str], *, gently: bool) -> Tensor:
        """Return what is to be made small, a scalar.

        Args:
            audio: padded windows, (n, samples).
            lengths: their own samples, (n,).
            texts: what is said in them.
            gently: whether the network hears nearly what is there.
        """


def train(
    trainee: Trainee, clips: Sequence[Clip], curriculum: Curriculum, seed: int, checkpoint: Path
) -> None:
    """Go through the curriculum.

    Args:
        trainee: what is trained.
        clips: what to train on.
        curriculum: what it hears in which order; ends with what it will hear in use.
        seed: of the windows; the network was seeded when it was made.
        checkpoint: where a run is kept; one that was broken off goes on from there.
    """
    optimizers = make_optimizers(trainee, trainee.heads)
    done = resume(checkpoint, trainee, optimizers)
    rng = np.random.default_rng([seed, done])
    step, started = 0, time.monotonic()
    trainee.train()
    for stage in curriculum.stages:
        drawn = pick([clip for clip in clips if len(clip.text.split()) in stage.lengths], rng)
        batches = draw(stage, curriculum.n_sorted, drawn, rng)
        for _ in range(stage.n_steps):
            step += 1
            if step <= done:
                continue
            curriculum.set_rate(optimizers, step - 1)
            windows = next(batches)
            with torch.autocast("cpu", torch.bfloat16):
                loss = trainee.loss(
                    *stack(windows), [window.text for window in windows], gently=stage.gentle
                )
            trainee.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            if step % 50 == 0 or step == curriculum.n_steps:
                elapsed_s = time.monotonic() - started
                log.info(f"step {step}/{curriculum.n_steps} {elapsed_s:.0f} s: loss {loss:.3f}")
                save(checkpoint, step, trainee, optimizers)
    trainee.eval()
