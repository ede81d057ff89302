"""Statements, seen before Postgres gets them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from shared.infra.driver import Driver, DriverCursor


@contextmanager
def seen_by(see: Callable[[str, Driver], object]) -> Iterator[None]:
    """Have ``see`` called with each statement of this process, and its connection."""
    execute = DriverCursor.execute

    def tell(self: DriverCursor, query: Any, *rest: Any, **options: Any) -> DriverCursor:
        see(str(query), self.connection)  # type: ignore[arg-type]
        return execute(self, query, *rest, **options)

    with mock.patch.object(DriverCursor, "execute", tell):
        yield
