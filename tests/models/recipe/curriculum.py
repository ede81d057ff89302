"""What a model is trained on in which order, and how fast."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.models.recipe.windows import Stage

WARM_UP_STEPS = 150


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the training with a learning rate that warms up, then falls to nothing."""

    peak_rate: float
    stages: tuple[Stage, ...]

    @property
    def n_steps(self) -> int:
        return sum(stage.n_steps for stage in self.stages)


def rate(phases: Sequence[Phase], step: int) -> float:
    """Return the learning rate of a step, counted from 0 through all phases."""
    for phase in phases:
        if step < phase.n_steps:
            warm = (step + 1) / WARM_UP_STEPS
            return phase.peak_rate * min(warm, 0.5 + 0.5 * math.cos(math.pi * step / phase.n_steps))
        step -= phase.n_steps
    return 0.0
