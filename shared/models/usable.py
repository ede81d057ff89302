"""Which models can be used on this machine: engine installed, weights here or to be had."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from shared.models import hub
from shared.models.catalogue import HUB_ENGINES, Model
from shared.models.engine_packages import missing_engine
from shared.models.weights import cached, why_not_pinned

HUB_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a model can be used here and now, and what stands in the way or is to be done."""

    usable: bool
    reason: str
    needs_download: bool = False


def availability(model: Model, hub_answers: Callable[[], bool]) -> Availability:
    """Look for a model's engine and weights; ask the hub only where weights are missing."""
    if problem := why_not_pinned(model):
        return Availability(False, problem)
    if missing := missing_engine(model):
        return Availability(False, missing)
    if model.engine not in HUB_ENGINES:
        return Availability(True, "comes with the install")
    if cached(model) is not None:
        return Availability(True, "ready")
    if model.folder is not None:
        return Availability(False, "its weights are not in the folder that the catalogue names")
    size = f"{model.size_bytes / 1e6:.0f} MB"
    if hub_answers():
        return Availability(True, f"downloaded on first use, {size}", needs_download=True)
    return Availability(
        False, f"weights ({size}) not downloaded, and the model hub does not answer"
    )


def ask_hub_once() -> Callable[[], bool]:
    """Return a function that asks the hub whether it answers when first called, and remembers."""
    return cache(lambda: hub.answers(timeout_s=HUB_TIMEOUT_S))
