"""What a vendor's names of models mean here."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial

from api.resources import Resources
from shared.infra.errors import UnknownModel
from shared.models import AUTO
from shared.models.catalogue import Catalogue


def model_of(
    name: str | None, vendor: Sequence[str], catalogue: Catalogue, aliases: Mapping[str, str]
) -> str:
    """Return the id of the model that a client means; ``auto``: the one that jobs get by default.

    An alias of the operator's counts first, then the catalogue, then the ``vendor``'s patterns. A
    name that none of them knows is refused: it may be a misspelt one.

    Args:
        name: what the client sends; None or empty: nothing.
        vendor: names of the dialect's vendor, as patterns.
        catalogue: our models.
        aliases: ``Settings.model_alias_map``.

    Raises:
        UnknownModel: nobody knows the name.
    """
    if not name:
        return AUTO
    for pattern, model in aliases.items():
        if fnmatchcase(name, pattern):
            return model
    if name == AUTO:
        return AUTO
    try:
        return catalogue.get(name).id
    except UnknownModel as error:
        if any(fnmatchcase(name, pattern) for pattern in vendor):
            return AUTO
        raise UnknownModel(f"{error}; LONGHAND_MODEL_ALIASES may name others") from error


def finder(vendor: Sequence[str], resources: Resources) -> Callable[[str | None], str]:
    """Return ``model_of`` for the names that clients of a dialect use."""
    return partial(
        model_of,
        vendor=vendor,
        catalogue=resources.catalogue,
        aliases=resources.settings.model_alias_map,
    )
