"""The database and the object store that are meant: the environment's, or a data directory's."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from cli.errors import CommandError
from shared.infra.settings import Settings, get_settings

if TYPE_CHECKING:
    from cli.embedded.directory import DataDirectory, StackRecord


@contextmanager
def servers_to_back_up(data: Path, say: Callable[[str], None]) -> Iterator[Settings]:
    """Yield settings of what is to be backed up; a data directory may be in use or not.

    Raises:
        CommandError: there is no platform's data.
    """
    if _names_servers():
        yield get_settings()
        return
    # What the embedded stack needs is in no image.
    from cli.embedded.directory import DataDirectory

    directory = DataDirectory(data)
    if (running := directory.owner()) is not None:
        yield _running(directory, running)
    elif not (directory.postgres / "PG_VERSION").exists():
        raise CommandError(
            f"there is no platform in {data}: name one with --data, or set LONGHAND_DATABASE_URL "
            "and LONGHAND_STORAGE_URL"
        )
    else:
        with _started(data, say) as settings:
            yield settings


@contextmanager
def servers_to_restore_to(data: Path, say: Callable[[str], None]) -> Iterator[Settings]:
    """Yield settings of where to restore; the data directory is made.

    Raises:
        DirectoryInUse: a platform runs there.
    """
    if _names_servers():
        yield get_settings()
        return
    from cli.embedded.directory import DataDirectory, DirectoryInUse

    if DataDirectory(data).owner() is not None:
        raise DirectoryInUse(data)
    with _started(data, say) as settings:
        yield settings


def _names_servers() -> bool:
    """Whether the environment names both servers.

    Raises:
        CommandError: it names one of them.
    """
    names = ("LONGHAND_DATABASE_URL", "LONGHAND_STORAGE_URL")
    named = [name for name in names if os.environ.get(name)]
    if len(named) == 1:
        raise CommandError(f"{named[0]} is set without its other half: set {' and '.join(names)}")
    return bool(named)


@contextmanager
def _started(data: Path, say: Callable[[str], None]) -> Iterator[Settings]:
    from cli.embedded.servers import running_servers

    with running_servers(data, say) as endpoints:
        yield _settings(endpoints.database_url, endpoints.storage_url)


def _running(directory: "DataDirectory", record: "StackRecord") -> Settings:
    """Return settings that reach the servers of a running stack."""
    from cli.embedded import postgres, rclone

    pg_port = postgres.port_in_use(directory.postgres)
    s3_port = next((_port(each.pid) for each in record.children if each.name == "rclone"), None)
    if pg_port is None or s3_port is None:
        raise CommandError(f"the platform in {directory.path} is starting or stopping: try again")
    secrets = directory.credentials()
    return _settings(
        postgres.url(secrets.postgres_password, pg_port),
        f"http://{secrets.s3_key}:{secrets.s3_secret}@127.0.0.1:{s3_port}/{rclone.BUCKET}",
    )


def _port(pid: int) -> int | None:
    """Return the port on which a process listens."""
    import psutil

    try:
        sockets = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return None
    return next((each.laddr.port for each in sockets if each.status == psutil.CONN_LISTEN), None)


def _settings(database_url: str, storage_url: str) -> Settings:
    return get_settings().model_copy(
        update={"database_url": SecretStr(database_url), "storage_url": SecretStr(storage_url)}
    )
