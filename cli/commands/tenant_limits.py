"""``longhand tenants limits``: what a tenant may have."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.commands.keys import SERVER
from cli.commands.options import DATA, data_path
from shared.store.accounts import MAX_LIMIT

DEFAULT = "default"
"""What an option says to have the platform's default again."""

_MEANINGS = {
    "requests_per_minute": ("Requests in a minute.", "any number"),
    "max_jobs": ("Jobs that wait or run.", "any number"),
    "audio_hours_per_day": ("Hours of audio in a day (UTC).", "any number"),
    "max_upload_bytes": ("Bytes of an upload.", "as the platform"),
    "max_open_uploads": ("Uploads that lack bytes.", "any number"),
    "max_streams": ("Streams, waits and calls in an API process.", "its share"),
    "max_live_sessions": ("Live sessions in an API process.", "its share"),
}
"""By name: what is limited, and what 0 means."""


class _Limit(click.ParamType[float | str]):
    """A number that is not negative, or ``default``."""

    name = "limit"

    def __init__(self, number: type[int] | type[float]) -> None:
        self._number = number

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        if value == DEFAULT:
            return DEFAULT
        try:
            limit = self._number(value)
        except ValueError:
            limit = math.nan
        if not 0 <= limit <= MAX_LIMIT:
            kind = "whole number" if self._number is int else "number"
            self.fail(f"{value!r} is neither '{DEFAULT}' nor a {kind} from 0 on", param, ctx)
        return limit


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for name, (meaning, zero) in reversed(_MEANINGS.items()):
        number = float if name == "audio_hours_per_day" else int
        command = click.option(
            f"--{name.replace('_', '-')}",
            name,
            type=_Limit(number),
            metavar="N",
            help=f"{meaning} 0: {zero}.",
        )(command)
    return command


@click.command()
@click.argument("tenant", metavar="ID")
@_options
@SERVER
@click.option("--data", **DATA)
def limits(tenant: str, server: str | None, data: Path | None, **wanted: Any) -> None:
    """Show what a tenant may have, or change it.

    What no option names stays. 'default' in place of a number takes the platform's default again.
    All API processes keep to it within a second.
    """
    from cli.accounts import accounts  # late: for the sake of --help

    change: dict[str, float | None] = {
        name: None if limit == DEFAULT else limit
        for name, limit in wanted.items()
        if limit is not None
    }
    with accounts(server, data_path(data)) as known:
        found = known.change_limits(tenant, change)
    for name, (_, zero) in _MEANINGS.items():
        limit = found.in_force.get(name)
        told = DEFAULT if limit is None else f"{limit:,}" if limit else zero
        is_default = limit is not None and name not in found.own
        click.echo(f"{name:<20} {told:>16}{'  (default)' if is_default else ''}")
