"""Postgres, Valkey and rclone's S3 server: started side by side, the schema brought up to date."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.embedded import postgres, rclone, valkey
from cli.embedded.child import Program
from cli.embedded.directory import DataDirectory, write_private
from cli.embedded.leftovers import end_leftovers
from cli.embedded.ports import free_ports
from cli.embedded.supervisor import Supervisor
from cli.errors import CommandError
from cli.signals import StopFlag

READY_LIMIT_S = 60.0
"""Crash recovery of a large cluster is what takes long."""
MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations" / "versions"
PORT_ATTEMPTS = 3
"""Between the choice of a free port and a server's binding it, another program may take it."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the three servers are, as the settings want it; the URLs carry credentials."""

    database_url: str
    broker_url: str
    storage_url: str

    def env(self) -> dict[str, str]:
        """Return the three settings that point the platform at these servers."""
        return {
            "LONGHAND_DATABASE_URL": self.database_url,
            "LONGHAND_BROKER_URL": self.broker_url,
            "LONGHAND_STORAGE_URL": self.storage_url,
        }


@contextmanager
def running_servers(path: Path, say: Callable[[str], None] = lambda _: None) -> Iterator[Endpoints]:
    """Run Postgres (migrated), Valkey and S3 alone under ``path``: all that most tests need."""
    directory = DataDirectory(path)
    flag = StopFlag()
    directory.create()
    with directory.lock():
        end_leftovers(directory)
        supervisor = Supervisor(directory, flag, say)
        try:
            yield start_servers(directory, supervisor, flag, say)[0]
        finally:
            supervisor.stop((["valkey", "rclone"], ["postgres"]))


def start_servers(
    directory: DataDirectory,
    supervisor: Supervisor,
    flag: StopFlag,
    say: Callable[[str], None],
    beside: Callable[[Endpoints], Sequence[Program]] = lambda _: (),
) -> tuple[Endpoints, list[Program]]:
    """Start Postgres, Valkey and rclone side by side and bring the schema up to date.

    ``beside`` are programs that are started at the same time and not waited for.

    Raises:
        CommandError: one does not come up, or the schema cannot be brought up to date.
        Stopped: a signal came first.
    """
    secrets = directory.credentials()
    if not (directory.postgres / "PG_VERSION").exists():
        say(f"creating the database in {directory.postgres}")
    postgres.ensure_cluster(directory.postgres, secrets.postgres_password)
    for attempt in range(PORT_ATTEMPTS):
        pg_port, valkey_port, s3_port = free_ports(3)
        programs = [
            postgres.program(directory.postgres, pg_port),
            valkey.program(directory.valkey, valkey_port, secrets.valkey_password),
            rclone.program(directory.storage, s3_port, secrets.s3_key, secrets.s3_secret),
        ]
        s3_login = f"{secrets.s3_key}:{secrets.s3_secret}"
        pg_login = f"{postgres.USER}:{secrets.postgres_password}"
        endpoints = Endpoints(
            f"postgresql+psycopg://{pg_login}@127.0.0.1:{pg_port}/{postgres.DATABASE}",
            f"redis://:{secrets.valkey_password}@127.0.0.1:{valkey_port}/0",
            f"http://{s3_login}@127.0.0.1:{s3_port}/{rclone.BUCKET}",
        )
        others = beside(endpoints)
        supervisor.launch([*programs, *others])
        try:
            supervisor.await_ready([program.name for program in programs], READY_LIMIT_S)
            break
        except CommandError:
            supervisor.forget([program.name for program in (*programs, *others)])
            if attempt + 1 == PORT_ATTEMPTS:
                raise
    flag.check()
    migrate(directory, endpoints.database_url)
    return endpoints, programs


def migrate(directory: DataDirectory, database_url: str) -> None:
    """Upgrade the schema, unless this very set of migrations has been applied here before.

    Raises:
        CommandError: a migration failed.
    """
    digest = hashlib.sha256()
    for file in sorted(MIGRATIONS.glob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    # Kept in PGDATA, so that it cannot outlive the schema that it describes.
    stamp = directory.postgres / "longhand-schema"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    # Imported late: most starts find the schema as it should be.
    from pydantic import SecretStr
    from sqlalchemy.exc import SQLAlchemyError

    from shared.infra import database
    from shared.infra.errors import DatabaseUnavailable, DatabaseUnfit
    from shared.infra.settings import Settings

    try:
        database.migrate(Settings(database_url=SecretStr(database_url)))
    except DatabaseUnfit as error:
        raise CommandError(
            f"cannot use {directory.postgres}: {error}; choose another directory with --data"
        ) from error
    except (SQLAlchemyError, DatabaseUnavailable) as error:
        raise CommandError(f"cannot migrate the database: {str(error).splitlines()[0]}") from error
    write_private(stamp, digest.hexdigest())
