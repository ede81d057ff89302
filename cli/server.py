"""A server as commands ask it: the SDK's client, whose failures become sentences.

The key comes from LONGHAND_API_KEY. There is no option for it: command lines are seen by all users
of a machine.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from longhand_sdk import AsyncLonghand, Longhand, LonghandError
from longhand_sdk.errors import Unauthenticated

from cli.errors import CommandError

Client = TypeVar("Client", Longhand, AsyncLonghand)


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
        CommandError: as by ``made``.
    """

    def pause(seconds: float) -> None:
        if stop is not None and stop.wait(seconds):
            raise CommandError("stopped")

    if stop is not None:
        options["sleep"] = pause
    return made(Longhand, url, **options)


def made(kind: Callable[..., Client], url: str, **options: Any) -> Client:
    """Return a client of either kind.

    Raises:
        CommandError: the address or the key is none, or a proxy of the environment is of no use.
    """
    try:
        return kind(url, **options)
    except ValueError as error:
        raise CommandError(str(error)) from error
    except ImportError as error:
        raise CommandError("SOCKS proxies, as the environment names one, are not used") from error
