"""``longhand models``: the catalogue's models, and why some are not usable."""

from collections.abc import Iterator
from contextlib import suppress

from cli.models.choice import LocalModels
from shared.infra.errors import RequestError
from shared.models.options import JobOptions


def list_models() -> Iterator[str]:
    """Yield lines that say which models can be used here and now, and what ``auto`` is.

    Models that the operator has yet to pin are listed too. Raises like ``read_catalogue``.
    """
    local = LocalModels()
    models = local.catalogue.models.values()
    for model in models:
        if not model.hidden:
            found = local.availability(model)
            yield f"{model.id:<29} {'yes' if found.usable else 'no':<4} {found.reason}"
            yield f"{'':<34} {model.description}"
    yield ""
    yield _what_auto_is(local)
    for language in sorted({code for model in models for code in model.preferred_for}):
        with suppress(RequestError):
            choice = local.choose(JobOptions(language=language))
            if choice.reason == "language":
                yield f"For language '{language}' it is {choice.model.id}, preferred for it."
    yield "A platform that runs already goes by the models that it serves: see GET /models there."


def _what_auto_is(local: LocalModels) -> str:
    try:
        choice = local.choose(JobOptions())
    except RequestError as error:
        return f"'auto' is no model now: {error}."
    model = choice.model.id
    if choice.reason == "default":
        found = local.availability(choice.model)
        but = "" if found.usable else f", but it cannot be used here: {found.reason}"
        return f"'auto' is {model} now: LONGHAND_DEFAULT_MODEL names it{but}."
    better = local.better(choice, JobOptions())
    because = "" if better is None else f"; {better[0].id} is better, but cannot be used"
    return f"'auto' is {model} now: the best that can be used here{because}."
