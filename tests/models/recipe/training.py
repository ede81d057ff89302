"""Training: a network hears the windows of its curriculum and is told about its mistakes."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.models.recipe.checkpoints import resume, save
from tests.models.recipe.curriculum import Curriculum
from tests.models.recipe.data import Clip, pick
from tests.models.recipe.optimizers import make_optimizers
from tests.models.recipe.windows import Stage, Window, fill_window

log = logging.getLogger(__name__)


class Trainee(nn.Module, ABC):
    """A network, and what it is told about its mistakes."""

    @property
    @abstractmethod
    def heads(self) -> Sequence[nn.Module]:
        """Its layers whose rows are classes."""

    @abstractmethod
    def loss(self, windows: Sequence[Window], stage: Stage, rng: np.random.Generator) -> Tensor:
        """Return what is to be made small, a scalar.

        Args:
            windows: a batch.
            stage: of the curriculum, where they are from.
            rng: for what the network makes of them by chance.
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
                loss = trainee.loss(windows, stage, rng)
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


def draw(
    stage: Stage, n_sorted: int, clips: Iterator[Clip], rng: np.random.Generator
) -> Iterator[list[Window]]:
    """Yield batches of windows; of ``n_sorted`` in a row, each has about equally long ones."""
    while True:
        pool = [fill_window(stage, clips, rng) for _ in range(n_sorted * stage.batch_size)]
        if n_sorted > 1:  # within one batch the order means nothing
            pool.sort(key=lambda window: len(window.audio))
        for i in rng.permutation(n_sorted):
            yield pool[i * stage.batch_size : (i + 1) * stage.batch_size]
