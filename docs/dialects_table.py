"""``python -m docs.dialects_table``: write the tables of docs/dialects.md."""

from collections.abc import Iterator
from pathlib import Path

from api.dialects.dialect import Dialect
from api.dialects.installed import DIALECTS
from api.dialects.parameters import Operation, Parameter, Presence, Verdict
from docs.marked_pages import with_part

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "dialects.md"
BEGIN = "<!-- dialects: made by `make docs` from api/dialects/ -->\n"
END = "<!-- end of dialects -->\n"


def page() -> str:
    """Return docs/dialects.md with its tables as the code has them now.

    Raises:
        ValueError: the page does not have the two marks of the tables.
    """
    return with_part(PAGE, BEGIN, "".join(part for each in DIALECTS for part in _part(each)), END)


def _part(dialect: Dialect) -> Iterator[str]:
    names = ", ".join(f"`{name}`" for name in dialect.models)
    yield f"\n## {dialect.name}\n\n{dialect.says}\n"
    yield f"Names of models that stand for the default one: {names}.\n\n"
    for operation in dialect.operations:
        yield from _operation(operation)


def _operation(operation: Operation) -> Iterator[str]:
    yield f"### {operation.title}\n\n"
    if operation.says:
        yield f"{operation.says}\n\n"
    if operation.takes:
        yield "| parameter | | here |\n| --- | --- | --- |\n"
        yield from (_row(each.name, each.verdict, _meaning(each)) for each in operation.takes)
        yield "\n"
    if operation.answers:
        yield "| in the answer | | here |\n| --- | --- | --- |\n"
        yield from (_row(each.name, each.presence, each.says) for each in operation.answers)
        yield "\n"


def _meaning(parameter: Parameter) -> str:
    if not parameter.harmless:
        return parameter.says
    values = ", ".join(f"`{value}`" for value in parameter.harmless)
    return f"{parameter.says}; taken as {values}"


def _row(name: str, what: Verdict | Presence, says: str) -> str:
    is_usual = what in (Verdict.ACCEPTED, Presence.SENT)
    shown = what if is_usual else f"**{what}**"
    return f"| `{name}` | {shown} | {says.replace('|', chr(92) + '|')} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
