"""A training run on disk, so that one that was broken off goes on where it was."""

from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer


def save(path: Path, step: int, model: nn.Module, optimizer: Optimizer) -> None:
    """Write the run's state after ``step`` steps."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({"step": step, **state}, path)


def resume(path: Path, model: nn.Module, optimizer: Optimizer) -> int:
    """Take up a run where there is one; return how many steps it had made."""
    if not path.exists():
        return 0
    state = torch.load(path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
