"""How options are declared: their groups in the help, and the types of their values."""

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.errors import os_reason
from cli.formats import FORMATS

ALL_FORMATS = "all"
_UNGROUPED = "Help"

_Command = TypeVar("_Command", bound=Callable[..., Any])


class GroupedCommand(click.Command):
    """A command whose help shows its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups in the order in which their first options were declared."""
        groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                groups[getattr(param, "group", _UNGROUPED)].append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


class _GroupedOption(click.Option):
    def __init__(
        self, decls: Sequence[str], *, group: str, aliases: Sequence[str] = (), **attrs: Any
    ) -> None:
        super().__init__([*decls, *aliases], **attrs)
        self.group = group
        self._aliases = aliases

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        shown = copy.copy(self)
        shown.opts = [name for name in self.opts if name not in self._aliases]
        return super(_GroupedOption, shown).get_help_record(ctx)


def option(
    group: str, *decls: str, aliases: Sequence[str] = (), **attrs: Any
) -> Callable[[_Command], _Command]:
    """Declare an option; the help shows it in ``group``, without its ``aliases``."""
    return click.option(*decls, cls=_GroupedOption, group=group, aliases=aliases, **attrs)


class NonEmptyPath(click.Path):
    """A path that is not empty: an unset shell variable leaves '', which would mean '.'."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


PATH = NonEmptyPath(path_type=Path)
DATA: dict[str, Any] = {
    "type": PATH,
    "envvar": "LONGHAND_DATA",
    "metavar": "DIR",
    "help": "Where the platform keeps its data.  [default: ~/.local/share/longhand]",
}
"""The option ``--data``, which several commands have."""


def data_path(chosen: Path | None) -> Path:
    """Return the data directory: the one chosen, else the default."""
    from cli.embedded.directory import default_path  # late: for the sake of --help

    return chosen.expanduser().absolute() if chosen else default_path()


class Formats(click.ParamType[tuple[str, ...]]):
    """Formats with commas between them, or 'all'; converted to a tuple."""

    name = "formats"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        chosen = [name.strip().lower() for name in str(value).split(",")]
        for name in chosen:
            if name not in (*FORMATS, ALL_FORMATS):
                known = ", ".join((*FORMATS, ALL_FORMATS))
                self.fail(f"there is no format '{name}'; there are {known}", param, ctx)
        return FORMATS if ALL_FORMATS in chosen else tuple(chosen)


class TextFile(click.ParamType[str]):
    """The name of a text file; converted to what is in it."""

    name = "text file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return Path(value).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            self.fail(f"{value} is not UTF-8 text", param, ctx)
        except OSError as error:
            self.fail(f"{value} cannot be read: {os_reason(error)}", param, ctx)
