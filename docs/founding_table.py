"""``python -m docs.founding_table``: write the tables of docs/founding.md."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from docs.founding_kinds import Kind, Name, Route, Spoken, Variable, Verdict
from docs.founding_names import SERVICES
from docs.marked_pages import with_part
from shared.infra.aliases import ALIASES
from shared.infra.settings import Settings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "founding.md"
BEGIN = "<!-- names: made by `make docs` from docs/founding_names.py -->\n"
END = "<!-- end of names -->\n"
NOT_YET = "not yet"

_LIVE = ("api/live", "shared/speech/live", "api/native/schemas")
"""Folders in which the words of live sessions are."""


def page() -> str:
    """Return docs/founding.md with its tables as the list has them now.

    Raises:
        ValueError: the page does not have the two marks of the tables.
    """
    return with_part(PAGE, BEGIN, "".join(_tables()), END)


def standing(name: Name) -> str:
    """Return what becomes of a name, as far as the code has it by now."""
    match name.proof:
        case Variable(variable) if ALIASES[variable].setting not in Settings.model_fields:
            return NOT_YET
        case Spoken(word) if word not in live_words():
            return NOT_YET
        case Route("WS") if not live_words():
            return NOT_YET
    return name.verdict


@cache
def live_words() -> frozenset[str]:
    """Return the names and the texts in the code of live sessions; none if there is none."""
    if not (ROOT / _LIVE[0]).is_dir():
        return frozenset()
    files = [file for folder in _LIVE for file in (ROOT / folder).rglob("*.py")]
    return frozenset(word for file in files for word in _words(file))


def _words(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.keyword(arg=str(name)):
                yield name


def _tables() -> Iterator[str]:
    for service in SERVICES:
        yield f"\n## {service.title}\n\n| | name | verdict | here |\n| --- | --- | --- | --- |\n"
        for name in service.names:
            what = standing(name)
            shown = name.name if name.kind is Kind.BEHAVIOUR else f"`{name.name}`"
            verdict = f"**{what}**" if what != Verdict.HONOURED else what
            yield f"| {name.kind} | {shown} | {verdict} | {name.says} |\n"
    yield "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
