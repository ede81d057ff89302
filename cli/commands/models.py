"""``longhand models``: the catalogue's models, and why some are not usable."""

from contextlib import suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cli.local_models import LocalModels


@click.command()
def models() -> int:
    """List the models, whether they can be used here and now, and which one 'auto' is."""
    # Imported late, for the sake of --help.
    from cli.local_models import LocalModels
    from shared.infra.errors import RequestError
    from shared.models.options import JobOptions

    local = LocalModels()
    catalogue = local.catalogue.models.values()
    for model in catalogue:  # those that the operator has yet to pin are listed too
        if not model.hidden:
            found = local.availability(model)
            click.echo(f"{model.id:<29} {'yes' if found.usable else 'no':<4} {found.reason}")
            click.echo(f"{'':<34} {model.description}")
    click.echo(f"\n{_what_auto_is(local)}")
    for language in sorted({code for model in catalogue for code in model.preferred_for}):
        with suppress(RequestError):
            choice = local.choose(JobOptions(language=language))
            if choice.reason == "language":
                click.echo(f"For language '{language}' it is {choice.model.id}, preferred for it.")
    click.echo(
        "A platform that runs already goes by the models that it serves: see GET /models there."
    )
    return 0


def _what_auto_is(local: "LocalModels") -> str:
    from shared.infra.errors import RequestError
    from shared.models.options import JobOptions

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
