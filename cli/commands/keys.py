"""``longhand keys``: API keys, made, listed and revoked."""

from pathlib import Path
from uuid import UUID

import click

from cli.commands.options import DATA, data_path
from cli.messages import note, one_line
from shared.store.accounts import DEFAULT_TENANT
from shared.store.accounts.scopes import Scope

SERVER = click.option(
    "--server",
    envvar="LONGHAND_SERVER",
    metavar="URL",
    help="The platform, with an administrator's key in LONGHAND_API_KEY. Omitted: the database of "
    "LONGHAND_DATABASE_URL, or of the platform that runs in --data.",
)
USUAL_SCOPES = tuple(
    str(scope) for scope in Scope if scope not in (Scope.ADMIN, Scope.JOBS_PRIORITY)
)


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command()
@click.option("--name", default="", metavar="TEXT", help="What it is for; for people.")
@click.option("--tenant", default=DEFAULT_TENANT, metavar="ID", help="Whose key it is.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(list(map(str, Scope))),
    multiple=True,
    show_default=", ".join(USUAL_SCOPES),
    help="What it opens; repeatable.",
)
@click.option(
    "--days", type=click.IntRange(1, 36_500), metavar="N", help="When it expires; omitted: never."
)
@SERVER
@click.option("--data", **DATA)
def create(
    name: str,
    tenant: str,
    scopes: tuple[str, ...],
    days: int | None,
    server: str | None,
    data: Path | None,
) -> None:
    """Make a key and print it, this once.

    To rotate a key, make another, put it into use, and revoke the old one.
    """
    from cli.accounts import accounts  # late: for the sake of --help

    chosen = [Scope(scope) for scope in scopes or USUAL_SCOPES]
    expires_in_s = None if days is None else days * 86_400
    with accounts(server, data_path(data)) as known:
        key = known.create_key(tenant, name or "unnamed", chosen, expires_in_s)
    click.echo(key)
    click.echo(note("the key is not shown again"), err=True)


@keys.command("list")
@click.option("--tenant", metavar="ID", help="Of this tenant alone.")
@SERVER
@click.option("--data", **DATA)
def show(tenant: str | None, server: str | None, data: Path | None) -> None:
    """List the keys, without the keys themselves."""
    from cli.accounts import accounts

    with accounts(server, data_path(data)) as known:
        found = known.keys(tenant)
    for key in found:
        if key.revoked_at is not None:
            state = f"revoked {key.revoked_at:%Y-%m-%d}"
        elif key.expires_at is not None:
            state = f"expires {key.expires_at:%Y-%m-%d}"
        else:
            state = "valid"
        used = "never" if key.last_used_at is None else f"{key.last_used_at:%Y-%m-%d %H:%M}"
        click.echo(
            f"{key.id}  {key.tenant:<16} {state:<19} used {used:<17} {','.join(key.scopes)}  "
            f"{one_line(key.name)}"
        )


@keys.command()
@click.argument("key_id", metavar="ID", type=click.UUID)
@SERVER
@click.option("--data", **DATA)
def revoke(key_id: UUID, server: str | None, data: Path | None) -> None:
    """Revoke a key, for good: within a second nobody is let in with it.

    ID is that of 'longhand keys list', not the key itself.
    """
    from cli.accounts import accounts

    with accounts(server, data_path(data)) as known:
        view = known.revoke(key_id)
    click.echo(note(f"revoked {one_line(view.name)} of {view.tenant}"), err=True)
