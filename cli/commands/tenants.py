"""``longhand tenants``: tenants, added and listed, and their limits."""

from pathlib import Path

import click

from cli.commands.keys import SERVER
from cli.commands.options import DATA, data_path
from cli.commands.tenant_limits import limits
from cli.messages import note, one_line


@click.group()
def tenants() -> None:
    """Add and list tenants, who see nothing of each other, and limit what they may have."""


tenants.add_command(limits)


@tenants.command()
@click.argument("tenant", metavar="ID")
@click.option("--name", metavar="TEXT", show_default="ID", help="For people.")
@SERVER
@click.option("--data", **DATA)
def create(tenant: str, name: str | None, server: str | None, data: Path | None) -> None:
    """Add a tenant, which has no keys yet."""
    from cli.accounts import accounts  # late: for the sake of --help

    with accounts(server, data_path(data)) as known:
        view = known.create_tenant(tenant, name or tenant)
    click.echo(note(f"'longhand keys create --tenant {view.id}' makes its first key"), err=True)


@tenants.command("list")
@SERVER
@click.option("--data", **DATA)
def show(server: str | None, data: Path | None) -> None:
    """List the tenants."""
    from cli.accounts import accounts

    with accounts(server, data_path(data)) as known:
        for view in known.tenants():
            click.echo(f"{view.id:<24} since {view.created_at:%Y-%m-%d}  {one_line(view.name)}")
