"""Whether a model's engine and weights are on this machine, or can be fetched."""

from collections.abc import Callable
from dataclasses import dataclass

from shared.models.catalogue import HUB_ENGINES, Model

HUB_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a model can be used here and now; the reason is told to people."""

    usable: bool
    reason: str
    needs_download: bool = False


def availability(model: Model, hub_answers: Callable[[], bool]) -> Availability:
    """Look for a model's engine and weights; the hub is asked only where weights are missing."""
    # Imported late: these load the engines' packages.
    from shared.models.installed import missing_engine
    from shared.models.weights import cached, why_not_pinned

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


def hub_probe() -> Callable[[], bool]:
    """Return a function that asks the hub at its first call and repeats the answer afterwards."""
    from shared.models.weights import hub_answers

    answers: list[bool] = []

    def ask() -> bool:
        if not answers:
            answers.append(hub_answers(timeout_s=HUB_TIMEOUT_S))
        return answers[0]

    return ask
