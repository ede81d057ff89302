"""``longhand models``: the catalogue's models, their pins, and their weights in one file."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.messages import one_line

if TYPE_CHECKING:
    from cli.local_models import LocalModels


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> int:
    """List the models, whether they can be used here and now, and which one 'auto' is."""
    if context.invoked_subcommand is not None:
        return 0
    # Imported late, for the sake of --help.
    from cli.local_models import LocalModels
    from shared.infra.errors import RequestError
    from shared.models.options import JobOptions
    from shared.models.weights import AnyModel

    local = LocalModels()
    catalogue = local.catalogue.models.values()
    listed: list[AnyModel] = [*catalogue, *local.catalogue.diarizers.values()]
    for each in listed:  # those that the operator has yet to pin are listed too
        if not each.hidden:
            found = local.availability(each)
            click.echo(f"{each.id:<29} {'yes' if found.usable else 'no':<4} {found.reason}")
            click.echo(f"{'':<34} {each.description}")
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


@models.command(short_help="Pin an unpinned model to the weights that its source has now.")
@click.argument("model_id", metavar="ID")
def pin(model_id: str) -> int:
    """Pin a model that the catalogue leaves unpinned to the weights that its source has now.

    The hub is asked for the newest commit of its repository; of a folder the digest is taken. What
    would be fetched is shown, and the pin is written into the lock file beside the catalogue.
    Nothing is fetched. A model that is pinned like this can be pinned anew.
    """
    from shared.infra.settings import get_settings
    from shared.models.catalogue import load_catalogue
    from shared.models.pinning import find_newest
    from shared.models.pins import write_pin

    path = get_settings().catalogue
    catalogue = load_catalogue(path)
    diarizer = catalogue.diarizers.get(model_id)
    model = diarizer or catalogue.entry(model_id)
    found = find_newest(model)
    click.echo(f"{one_line(found.pin.source)} at {found.pin.revision}")
    if found.licence is not None:
        click.echo(f"licence: {one_line(found.licence)}")
    for name, size_bytes in found.sizes.items():
        click.echo(f"{size_bytes:>15,}  {name}")
    click.echo(f"{sum(found.sizes.values()):>15,}  bytes in {len(found.sizes)} files")
    lock = write_pin(path, model.id, found.pin)
    if found.licence is None:
        then = "it can be used now"
    elif diarizer is not None:
        then = f"'python -m worker fetch --model {model.id}' fetches it"
    else:
        then = f"'longhand transcribe --model {model.id}' fetches it"
    click.echo(f"{model.id} is pinned in {lock.name}; {then}.")
    return 0


@models.command("export", short_help="Write models' weights into one file.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("model_ids", metavar="ID...", nargs=-1, required=True)
def export_models(path: Path, model_ids: tuple[str, ...]) -> int:
    """Write the weights of models that are here into one new file, for 'longhand models import'."""
    from shared.infra.settings import get_settings
    from shared.models import bundle
    from shared.models.catalogue import load_catalogue

    catalogue = load_catalogue(get_settings().catalogue)
    chosen = [
        catalogue.diarizers.get(model_id) or catalogue.get(model_id)
        for model_id in dict.fromkeys(model_ids)
    ]
    bundle.export(chosen, path, _told("written"))
    return 0


@models.command("import", short_help="Bring in weights that were exported elsewhere.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
def import_models(path: Path) -> int:
    """Bring the weights in a file of 'longhand models export' to where workers look for them.

    Only what this machine's catalogue pins is taken, and every file is compared with its digest.
    """
    from shared.infra.settings import get_settings
    from shared.models import bundle
    from shared.models.catalogue import load_catalogue

    bundle.import_(path, load_catalogue(get_settings().catalogue), _told("brought in"))
    return 0


@models.command("verify", short_help="Check an exported file, or the weights that are here.")
@click.argument(
    "path", metavar="[FILE]", type=click.Path(path_type=Path, dir_okay=False), required=False
)
def verify_models(path: Path | None) -> int:
    """Compare the files in an exported FILE with their digests, or the weights that are here."""
    from shared.infra.settings import get_settings
    from shared.models import bundle, weights
    from shared.models.catalogue import load_catalogue

    if path is not None:
        bundle.verify(path, _told("whole"))
        return 0
    catalogue = load_catalogue(get_settings().catalogue)
    known: list[bundle.AnyModel] = [*catalogue.models.values(), *catalogue.diarizers.values()]
    for model in known:
        if model.needs_weights and model.is_pinned and weights.cached(model) is not None:
            click.echo(f"{model.id:<29} {weights.pinned(model).digest}")
    return 0


def _told(what: str) -> Callable[[str, int], None]:
    def report(model_id: str, n_bytes: int) -> None:
        click.echo(
            f"{model_id:<29} " + (f"{what}, {n_bytes:,} bytes" if n_bytes else "here already")
        )

    return report
