"""A server as commands ask it: the SDK's client, whose failures become sentences.

The key comes from LONGHAND_API_KEY. There is no option for it: command lines are seen by all users
of a machine.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from longhand_sdk import Longhand, LonghandError
from longhand_sdk.errors import Unauthenticated

from cli.errors import CommandError


@contextmanager
def told() -> Iterator[None]:
    """Have failures of the SDK raised as ``CommandError``."""
    try:
        yield
    except LonghandError as error:
        hint = " (LONGHAND_API_KEY)" if isinstance(error, Unauthenticated) else ""
        raise CommandError(f"{error}{hint}") from error


def connect(url: str, stop: threading.Event | None = None, **options: Any) -> Longhand:
    """Return a client of a server; options as of ``Longhand``.

    Once ``stop`` is set, a busy or absent server is not waited for any more.

    Raises:
        CommandError: it is no http(s) URL.
    """

    def pause(seconds: float) -> None:
        if stop is not None and stop.wait(seconds):
            raise CommandError("stopped")

    if stop is not None:
        options["sleep"] = pause
    try:
        return Longhand(url, **options)
    except ValueError as error:
        raise CommandError(str(error)) from error
