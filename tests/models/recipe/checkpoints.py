"""A training run on disk, so that one that was broken off goes on where it was."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer


def save(path: Path, step: int, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    """Write the run's state after ``step`` steps."""
    states = [optimizer.state_dict() for optimizer in optimizers]
    torch.save({"step": step, "model": model.state_dict(), "optimizers": states}, path)


def resume(path: Path, model: nn.Module, optimizers: Sequence[Optimizer]) -> int:
    """Take up a run where there is one; return how many steps it had made."""
    if not path.exists():
        return 0
    state = torch.load(path)
    model.load_state_dict(state["model"])
    for optimizer, its_state in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(its_state)
    return int(state["step"])
