"""``python -m docs.access_table``: write the table of who sees what into docs/security.md.

The rows follow from the routes' declarations.
``tests/integration/access/test_access_table.py`` walks the same routes of a live API, and finds the
same.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts

from api.access.routes import declared_scope
from api.app import create_app
from api.resources import current_principal, current_tenant
from docs.marked_pages import with_part
from shared.store.accounts.scopes import Scope

PAGE = Path(__file__).with_name("security.md")
BEGIN = "<!-- access: made by `make docs` from the routes -->\n"
END = "<!-- end of access -->\n"

ANYBODY = "anybody"
"""In place of a scope."""
SOCKET = "WS"
"""In place of a method."""

LET_IN, OPENED = "2xx", "101"
OWN_ONLY = "own only"
"""The route takes no id. What it shows, counts or makes belongs to the tenant of the key."""
SAME = "the same"
"""It shows the platform, which is the same for all tenants."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one route answers, by who asks. Each cell is a status or one of the words above."""

    route: str
    scope: str
    no_key: str
    no_scope: str
    """With a key that has all other scopes."""
    other: str
    """With the scope alone: for what belongs to another tenant."""
    own: str
    """With the scope alone: for what belongs to the key's tenant."""


def page() -> str:
    """Return docs/security.md with its table as the code has it now.

    Raises:
        ValueError: the page does not have the two marks of the table.
    """
    return with_part(PAGE, BEGIN, table(), END)


def table() -> str:
    """Return one line for each route."""
    lines = [
        "| route | scope | no key | key without the scope | another tenant's | own |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows(create_app()):
        route, scope, *answers = astuple(row)
        cells = (f"`{route}`", scope if scope == ANYBODY else f"`{scope}`", *answers)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rows(app: FastAPI) -> list[Row]:
    """Return the row of each route of an application, by path."""
    found = [_row(*route) for route in _routes(app)]
    return sorted(found, key=lambda row: row.route.split()[::-1])


def _routes(app: FastAPI) -> Iterator[tuple[str, str, Any]]:
    """Yield method, path and FastAPI's route of all that is served."""
    for context in iter_route_contexts(app.router.routes):
        route, path = context.original_route, context.path or ""
        if isinstance(route, APIWebSocketRoute):
            yield SOCKET, path, route
        elif context.methods:
            for method in sorted(context.methods - {"HEAD"}):
                yield method, path, route


def _row(method: str, path: str, route: Any) -> Row:
    name = f"{method} {path}"
    scope = _scope(route)
    if scope is None:
        return Row(name, ANYBODY, LET_IN, LET_IN, SAME, LET_IN)
    if method == SOCKET:
        return Row(name, scope, "401", "403", OWN_ONLY, OPENED)
    if scope == Scope.ADMIN:
        other = LET_IN
    elif not _serves_a_tenant(route.dependant):
        other = SAME
    else:
        other = "404" if "{" in path else OWN_ONLY
    return Row(name, scope, "401", "403", other, LET_IN)


def _scope(route: Any) -> Scope | None:
    """Return the scope that a route demands; None: it is public, or a page, which declares nothing.

    Raises:
        KeyError: a route of the OpenAPI document declares nothing.
    """
    is_documented = isinstance(route, APIRoute) and route.include_in_schema
    try:
        return declared_scope(route.endpoint)
    except KeyError:
        if is_documented or isinstance(route, APIWebSocketRoute):
            raise
        return None


def _serves_a_tenant(dependant: Dependant) -> bool:
    calls = {each.call for each in dependant.dependencies}
    return bool(calls & {current_tenant, current_principal}) or any(
        map(_serves_a_tenant, dependant.dependencies)
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
