"""Starts Postgres, Valkey and rclone's S3 server, and migrates the schema."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cli.embedded import postgres, rclone, valkey
from cli.embedded.child import Program
from cli.embedded.directory import DataDirectory, write_private
from cli.embedded.leftovers import end_leftovers
from cli.embedded.ports import free_ports
from cli.embedded.supervisor import Supervisor
from cli.errors import CommandError
from cli.signals import StopFlag
from shared.infra.settings import API_ROLE, WORKER_ROLE

READY_LIMIT_S = 60.0
"""The crash recovery of a large cluster takes long."""
MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations" / "versions"
PORT_ATTEMPTS = 3
"""Another program may take a free port before the server binds it."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """URLs of the three servers, as the settings have them, with credentials."""

    database_url: str = field(repr=False)
    """The owner's."""
    api_database_url: str = field(repr=False)
    worker_database_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    storage_url: str = field(repr=False)

    def env(self) -> dict[str, str]:
        """Return the settings of a worker that name these servers."""
        return {
            "LONGHAND_DATABASE_URL": self.worker_database_url,
            "LONGHAND_BROKER_URL": self.broker_url,
            "LONGHAND_STORAGE_URL": self.storage_url,
        }


@contextmanager
def running_servers(path: Path, say: Callable[[str], None] = lambda _: None) -> Iterator[Endpoints]:
    """Run Postgres (migrated), Valkey and S3 without services; most tests need no more."""
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
    """Start Postgres, Valkey and rclone at the same time, then migrate the schema.

    ``beside`` returns programs to be started before them, which are not waited for.

    Raises:
        CommandError: one does not come up, or a migration fails.
        Stopped: a signal came first.
    """
    secrets = directory.credentials()
    if not (directory.postgres / "PG_VERSION").exists():
        say(f"creating the database in {directory.postgres}")
    for attempt in range(PORT_ATTEMPTS):
        pg_port, valkey_port, s3_port = free_ports(3)
        s3_login = f"{secrets.s3_key}:{secrets.s3_secret}"
        endpoints = Endpoints(
            postgres.url(secrets.postgres_password, pg_port),
            postgres.url(secrets.postgres_api_password, pg_port, API_ROLE),
            postgres.url(secrets.postgres_worker_password, pg_port, WORKER_ROLE),
            f"redis://:{secrets.valkey_password}@127.0.0.1:{valkey_port}/0",
            f"http://{s3_login}@127.0.0.1:{s3_port}/{rclone.BUCKET}",
        )
        others = beside(endpoints)
        supervisor.launch(others)
        postgres.ensure_cluster(directory.postgres, secrets.postgres_password)
        programs = [
            postgres.program(directory.postgres, pg_port),
            valkey.program(directory.valkey, valkey_port, secrets.valkey_password),
            rclone.program(directory.storage, s3_port, secrets.s3_key, secrets.s3_secret),
        ]
        supervisor.launch(programs)
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
    """Upgrade the schema, unless the same migrations have been applied before.

    Raises:
        CommandError: a migration failed.
    """
    digest = hashlib.sha256()
    for file in sorted(p for p in MIGRATIONS.rglob("*") if p.suffix in (".py", ".sql")):
        digest.update(file.name.encode() + file.read_bytes())
    # The stamp is in PGDATA, so that it is deleted with the schema that it describes.
    secrets = directory.credentials()
    digest.update(f"{secrets.postgres_api_password} {secrets.postgres_worker_password}".encode())
    stamp = directory.postgres / "longhand-schema"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    # Imported here, because most starts have nothing to migrate, and SQLAlchemy takes 0.3 s.
    from pydantic import SecretStr
    from sqlalchemy.exc import SQLAlchemyError

    from shared.infra import schema
    from shared.infra.errors import DatabaseUnavailable, DatabaseUnfit
    from shared.infra.roles import admit_roles
    from shared.infra.settings import Settings

    try:
        settings = Settings(
            database_url=SecretStr(database_url),
            api_database_password=SecretStr(secrets.postgres_api_password),
            worker_database_password=SecretStr(secrets.postgres_worker_password),
        )
        schema.migrate(settings)
        admit_roles(settings)
    except DatabaseUnfit as error:
        raise CommandError(
            f"cannot use {directory.postgres}: {error}; choose another directory with --data"
        ) from error
    except (SQLAlchemyError, DatabaseUnavailable) as error:
        raise CommandError(f"cannot migrate the database: {str(error).splitlines()[0]}") from error
    write_private(stamp, digest.hexdigest())
