"""A platform that runs already, for commands that start none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longhand_sdk import Longhand

from cli.embedded.directory import DataDirectory
from cli.errors import CommandError
from cli.server import connect, told


@contextmanager
def running_platform(server: str | None, data: Path) -> Iterator[Longhand]:
    """Yield a client of the platform at ``server``, or of the one that runs in ``data``.

    Failures of the client become ``CommandError``.

    Raises:
        CommandError: there is none.
    """
    if server is None:
        owner = DataDirectory(data).owner()
        if owner is None or owner.purpose != "up":
            raise CommandError(
                f"no platform runs in {data}: start one with 'longhand up', or name one by --server"
            )
        server = owner.api_url
    with told(), connect(server) as client:
        yield client
