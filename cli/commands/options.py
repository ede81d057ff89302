"""How options are declared: their groups in the help, and the types of their values."""

from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from cli.errors import os_reason
from shared.speech.names import FORMATS

ALL_FORMATS = "all"


class GroupedCommand(click.Command):
    """A command whose help shows its options in groups.

    An ``OptionalNumber`` may stand without its number, also before an argument.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the number that is meant after each option that has none."""
        options = (param for param in self.params if isinstance(param, OptionalNumber))
        names = {name for option in options for name in option.opts}
        end = args.index("--") if "--" in args else len(args)
        given = [
            f"{word}={ANY_NUMBER}" if word in names and not follows.isdecimal() else word
            for word, follows in pairwise([*args[:end], ""])
        ]
        return super().parse_args(ctx, given + args[end:])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups in the order in which their first options were declared."""
        groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                groups[getattr(param, "group", "Help")].append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


class GroupedOption(click.Option):
    """An option of a ``GroupedCommand``."""

    def __init__(self, *args: Any, group: str, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.group = group


ANY_NUMBER = "any"


class OptionalNumber(GroupedOption):
    """An option that takes a number, or none; its value is an int, or True without a number."""

    def __init__(self, *args: Any, **attrs: Any) -> None:
        super().__init__(*args, type=_NumberOrAny(), metavar="[N]", **attrs)


class _NumberOrAny(click.ParamType[int | bool]):
    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value == ANY_NUMBER or click.INT.convert(value, param, ctx)


class NonEmptyPath(click.Path):
    """A path that is not empty: an unset shell variable leaves '', which would mean '.'."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


class Id(click.ParamType[str]):
    """An id; not empty, as an unset shell variable would leave it."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("the id is empty", param, ctx)
        return value


class FileOrUrl(NonEmptyPath):
    """A path; or an http(s) URL, as text, since a path would lose some of its slashes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from cli.transcribe.sources import is_url  # late: for the sake of --help

        if isinstance(value, str) and is_url(value):
            return value
        return super().convert(value, param, ctx)


PATH = NonEmptyPath(path_type=Path)
FILE = FileOrUrl(path_type=Path)
DATA: dict[str, Any] = {
    "type": PATH,
    "envvar": "LONGHAND_DATA",
    "metavar": "DIR",
    "show_default": "~/.local/share/longhand",
    "help": "Where data is kept.",
}
"""The option ``--data``, which several commands have."""

SERVER = click.option(
    "--server",
    envvar="LONGHAND_SERVER",
    metavar="URL",
    help="The platform. Omitted: the one that runs in --data.",
)
"""The option ``--server`` of commands that need a platform that runs already."""


def data_path(chosen: Path | None) -> Path:
    """Return the data directory: the one chosen, else the default."""
    from cli.embedded.directory import default_path  # late: for the sake of --help

    return chosen.expanduser().absolute() if chosen else default_path()


class Formats(click.ParamType[tuple[str, ...]]):
    """Formats separated by commas, or 'all'; converted to a tuple."""

    name = "formats"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        chosen = [name.strip().lower() for name in str(value).split(",")]
        known = (*FORMATS, ALL_FORMATS)
        for name in chosen:
            if name not in known:
                problem = f"there is no format '{name}'; there are {', '.join(known)}"
                self.fail(f"{problem}; commas separate several", param, ctx)
        return FORMATS if ALL_FORMATS in chosen else tuple(chosen)


class ReferenceFile(click.ParamType[str]):
    """The name of a text file against which a transcript can be measured; converted to its text."""

    name = "text file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from shared.infra.errors import InvalidRequest
        from shared.speech.text.accuracy import check_reference

        try:
            reference = Path(value).read_text(encoding="utf-8-sig")
            check_reference(reference)
        except UnicodeDecodeError:
            self.fail(f"{value} is not UTF-8 text", param, ctx)
        except OSError as error:
            self.fail(f"{value} cannot be read: {os_reason(error)}", param, ctx)
        except InvalidRequest as error:
            self.fail(str(error), param, ctx)
        return reference
