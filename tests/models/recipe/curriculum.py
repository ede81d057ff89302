"""What a model is trained on in which order, and how fast."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch.optim import Optimizer

from tests.models.recipe.windows import Stage

WARM_UP_STEPS = 150
LENGTHS = (1, 3, 5, 9)
"""Words in a sentence, once single words are known."""


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Stages with a learning rate that warms up, then falls to nothing along a cosine."""

    peak_rate: float
    stages: tuple[Stage, ...]
    n_sorted: int = 1
    """Batches that are drawn at once and sorted by length, so that less of them is padding."""

    @property
    def n_steps(self) -> int:
        return sum(stage.n_steps for stage in self.stages)

    def set_rate(self, optimizers: Sequence[Optimizer], step: int) -> None:
        """Give the optimizers the learning rate of a step, counted from 0."""
        warm = (step + 1) / WARM_UP_STEPS
        rate = self.peak_rate * min(warm, 0.5 + 0.5 * math.cos(math.pi * step / self.n_steps))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate
