"""``longhand backup`` and ``longhand restore``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cli.commands.options import DATA, PATH, data_path
from cli.messages import note, warning
from shared.infra.quantities import size

WHERE = (
    "The platform is that of LONGHAND_DATABASE_URL (the tables' owner's) and LONGHAND_STORAGE_URL; "
    "without them that of --data."
)


@click.command(epilog=WHERE)
@click.argument("folder", metavar="DIR", type=PATH)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="N",
    show_default="all",
    help="Then remove all but the newest N backups in DIR.",
)
@click.option("--data", **DATA)
def backup(folder: Path, keep: int | None, data: Path | None) -> None:
    """Back up a platform, which may be at work, to DIR.

    First its rows are copied, all as of one moment, then its objects, but for those that an earlier
    backup in DIR has. Until the end nothing is removed from the object store. Settings and
    credentials are not copied.
    """
    from cli.backup.make import make_backup  # late: for the sake of --help
    from cli.backup.servers import servers_to_back_up

    with _told(), servers_to_back_up(data_path(data), _say) as settings:
        made = make_backup(settings, folder, keep=keep, say=_say)
    if made.gone:
        click.echo(
            warning(f"{made.gone} objects were removed meanwhile, and not by Longhand"), err=True
        )
    if made.pruned:
        _say(f"removed {made.pruned} older backups")
    click.echo(
        f"{made.path}: {made.jobs} jobs, {made.objects} objects ({size(made.n_bytes)}), "
        f"{made.copied} of them new ({size(made.copied_bytes)}), in {made.took_s:.1f} s"
    )


@click.command(epilog=WHERE)
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("--data", **DATA)
def restore(folder: Path, data: Path | None) -> None:
    """Restore a backup into an empty database and an empty bucket.

    DIR is one backup, or a folder of them, of which the newest is restored. No other process may
    use the database meanwhile. Afterwards start the platform as usual: jobs that had ended are
    read, and all others go on.
    """
    from cli.backup.restore import restore_backup
    from cli.backup.servers import servers_to_restore_to

    with _told(), servers_to_restore_to(data_path(data), _say) as settings:
        done = restore_backup(settings, folder, _say)
    if done.lost.audio or done.lost.unfinished:
        click.echo(
            warning(
                f"the backup lacks the audio of {done.lost.audio + done.lost.unfinished} jobs, of "
                f"which {done.lost.unfinished} have failed for it"
            ),
            err=True,
        )
    click.echo(
        f"{done.path}: restored {done.jobs} jobs and {done.objects} objects "
        f"({size(done.n_bytes)}) in {done.took_s:.1f} s"
    )


def _say(sentence: str) -> None:
    click.echo(note(sentence), err=True)


@contextmanager
def _told() -> Iterator[None]:
    """Have errors of Postgres told in one line, without their statements."""
    import psycopg
    from sqlalchemy.exc import DBAPIError

    from cli.errors import CommandError

    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        hint = ""
        if isinstance(cause, psycopg.errors.InsufficientPrivilege):
            hint = " (use the URL of the tables' owner, with which `migrate` runs)"
        raise CommandError(f"Postgres refused: {reason}{hint}") from error
