"""``python -m docs.founding_table``: write the tables of docs/founding.md."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from docs.founding_kinds import Kind, Verdict
from docs.founding_names import SERVICES
from docs.marked_pages import with_part

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "founding.md"
BEGIN = "<!-- names: made by `make docs` from docs/founding_names/ -->\n"
END = "<!-- end of names -->\n"

_ADAPTERS = {"/ws/stt": "api/live/stt.py", "/ws/transcribe": "api/live/transcribe.py"}
"""The file in which the messages of a WebSocket are."""
_LISTS = {
    "LiveError": ("Code", "api/live/errors.py"),
    "Ended": ("EndReason", "shared/speech/live/events.py"),
}
"""Values of members that a file which uses a class sends: their list, and its file."""


def page() -> str:
    """Return docs/founding.md with its tables as the list has them now.

    Raises:
        ValueError: the page does not have the two marks of the tables.
    """
    return with_part(PAGE, BEGIN, "".join(_tables()), END)


@cache
def spoken_words(path: str) -> frozenset[str]:
    """Return the types, members, values and codes in the messages of a WebSocket."""
    tree = _parsed(_ADAPTERS[path])
    words = {*_message_words(tree)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for name, (values, file) in _LISTS.items():
        if name in used:
            words |= {*_listed(_parsed(file), values)}
    return frozenset(words)


def _parsed(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def _message_words(tree: ast.Module) -> Iterator[str]:
    """Yield members and literals of messages that come in, and what messages are sent with."""
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Subscript(value=ast.Name(id="Literal"), slice=choice):
                yield from _texts(choice)
            case ast.Call(func=ast.Attribute(attr="_send" | "_send_final"), args=args):
                yield from (text for arg in args for text in _texts(arg))
                for keyword in node.keywords:
                    yield from filter(None, [keyword.arg])
                    yield from _texts(keyword.value)
            case ast.Dict(keys=keys, values=values):
                for each in (*keys, *values):
                    if isinstance(each, ast.Constant):
                        yield from _texts(each)
            case ast.Assign(targets=[ast.Name(id="names")], value=value):
                yield from _texts(value)


def _listed(tree: ast.Module, name: str) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=found)]) if found == name:
                yield from _texts(node)
            case ast.ClassDef(name=found) if found == name:
                yield from _texts(node)


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _tables() -> Iterator[str]:
    for service in SERVICES:
        yield f"\n## {service.title}\n\n| | name | verdict | here |\n| --- | --- | --- | --- |\n"
        for name in service.names:
            what = name.verdict
            shown = name.name if name.kind is Kind.BEHAVIOUR else f"`{name.name}`"
            verdict = f"**{what}**" if what != Verdict.HONOURED else what
            yield f"| {name.kind} | {shown} | {verdict} | {name.says} |\n"
    yield "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
