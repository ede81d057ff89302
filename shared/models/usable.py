"""Which models can be used on this machine: the engine is installed, the weights are in reach."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from shared.models import hub
from shared.models.catalogue import HUB_ENGINES, Model
from shared.models.engine_packages import missing_engine
from shared.models.weights import cached, why_not_pinned


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a model can be used here and now, and what is missing."""

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


@cache
def hub_answers_once() -> bool:
    """Whether the hub can be reached; it is asked once in the life of the process."""
    return hub.answers()
