"""The embedded stack: which programs, in which order, with which environment.

Postgres, Valkey, rclone      side by side, each on a free loopback port
schema                        migrated in this process, only when the migrations changed
API, CPU worker, model workers, delivery worker, beat (and Flower)      side by side
"""

import hashlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

from port_for import PortForException, available_good_ports, select_random

from cli.embedded import postgres, rclone, valkey
from cli.embedded.child import Program
from cli.embedded.directory import DataDirectory, Purpose, write_private
from cli.embedded.roll import RollCall
from cli.embedded.signals import StopFlag, Stopped
from cli.embedded.supervisor import Supervisor, end_leftovers
from cli.errors import CommandError
from shared.infra.settings import get_settings

SOURCE_ROOT = Path(__file__).resolve().parents[2]
SERVERS_LIMIT_S = 60.0
"""Crash recovery of a large cluster is what takes long here."""
SERVICES_LIMIT_S = 300.0
"""A large model on a slow disk is what takes long here."""
PORT_ATTEMPTS = 3
"""Between choosing a free port and a server's binding it, another program may take it."""
BACKLOG = 512


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


@dataclass(frozen=True, slots=True)
class Plan:
    """What a stack is to run."""

    models: tuple[str, ...]
    """Catalogue ids, one model worker each; the first is the default for jobs that name none."""
    port: int = 0
    """The API's; 0 for any free one."""
    flower_port: int | None = None
    """Flower's; None for no Flower."""
    purpose: Purpose = "up"
    drain_s: float = 15.0
    """How long workers may take to finish the step in hand when they are stopped."""


class Stack:
    """One running embedded stack; ``running_stack`` makes it."""

    def __init__(
        self, directory: DataDirectory, plan: Plan, flag: StopFlag, say: Callable[[str], None]
    ) -> None:
        self.plan = plan
        self.programs: list[Program] = []
        self._directory = directory
        self._flag = flag
        self._say = say
        self._supervisor = Supervisor(directory, flag, say, plan.purpose)
        if plan.flower_port is not None:  # told before anything is started
            _listen(plan.flower_port, "--flower-port").close()
        self._listener = _listen(plan.port, "--port")
        port = self._listener.getsockname()[1]
        self.api_url = self._supervisor.api_url = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        """Start everything and wait until it can take and do jobs.

        Raises:
            CommandError: a part does not come up.
            Stopped: a signal came first.
        """
        endpoints, servers = start_servers(self._directory, self._supervisor, self._flag, self._say)
        services = self._services(endpoints)
        self.programs = [*servers, *services]
        self._supervisor.launch(services)
        self._supervisor.await_ready([program.name for program in services], SERVICES_LIMIT_S)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Keep it running until ``until()``; raises ``Stopped`` when a signal comes first."""
        self._supervisor.run(until)

    def stop(self) -> None:
        """Drain and end everything: first who takes jobs, then who does them, then the servers."""
        workers = [p.name for p in self.programs if p.name.startswith("worker-")]
        phases = (["api", "flower"], [*workers, "beat"], ["valkey", "rclone"], ["postgres"])
        self._supervisor.stop(phases)
        self._listener.close()

    def _services(self, endpoints: Endpoints) -> list[Program]:
        env = service_environment(endpoints)
        env["LONGHAND_DEFAULT_MODEL"] = self.plan.models[0]
        drain_s = self.plan.drain_s
        fd = self._listener.fileno()
        roll = RollCall(self.api_url)

        def service(name: str, *arguments: str, **options: object) -> Program:
            command = (sys.executable, "-P", "-m", *arguments)
            return Program(name, command, env, cwd=self._directory.path, **options)  # type: ignore[arg-type]

        services = [
            service(
                "api",
                *("api", "--fd", str(fd)),
                address=self.api_url,
                is_ready=roll.api,
                pass_fds=(fd,),
            ),
            service(
                "worker-cpu",
                *("worker", "cpu"),
                is_ready=lambda: roll.worker("cpu"),
                grace_s=drain_s,
            ),
            *(
                service(
                    f"worker-{model}",
                    *("worker", "model", "--model", model),
                    is_ready=partial(roll.worker, "model", model),
                    grace_s=drain_s,
                )
                for model in self.plan.models
            ),
            service(
                "worker-deliver",
                *("worker", "deliver"),
                is_ready=lambda: roll.worker("deliver"),
                grace_s=drain_s,
            ),
            service(
                "beat",
                *("worker", "beat"),
                is_ready=lambda: roll.worker("beat"),
            ),
        ]
        if (port := self.plan.flower_port) is not None:
            from shared.queue.broker import FLOWER_USER  # late: it imports Celery

            secrets = self._directory.credentials()
            password = env.get("LONGHAND_FLOWER_PASSWORD") or secrets.flower_password
            flower = service(
                "flower",
                *("worker", "flower", f"--port={port}"),
                # With this login a browser and curl are let in at once.
                address=f"http://{FLOWER_USER}:{quote(password, safe='')}@127.0.0.1:{port}",
                is_ready=lambda: _listens(port),
            )
            services.append(replace(flower, env={**env, "LONGHAND_FLOWER_PASSWORD": password}))
        return services


@contextmanager
def running_stack(
    directory: DataDirectory, plan: Plan, flag: StopFlag, say: Callable[[str], None]
) -> Iterator[Stack]:
    """Lock the directory, clear up after a killed run, start a stack; stop it however this ends.

    Main thread only (see ``Child``).

    Raises:
        DirectoryInUse: another supervisor runs there.
        CommandError: the port is taken, or a part does not come up.
        Stopped: a signal came.
    """
    directory.create()
    with directory.lock():
        if ended := end_leftovers(directory):
            say(f"ended {ended} processes of an earlier run that was killed")
        stack = Stack(directory, plan, flag, say)
        try:
            stack.start()
            yield stack
        except Stopped:
            say("stopping; Ctrl-C again stops at once")
            raise
        finally:
            stack.stop()


@contextmanager
def running_servers(path: Path, say: Callable[[str], None] = lambda _: None) -> Iterator[Endpoints]:
    """Only Postgres (migrated), Valkey and S3 under ``path``: what tests of the platform need."""
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
) -> tuple[Endpoints, list[Program]]:
    """Start Postgres, Valkey and rclone side by side and bring the schema up to date."""
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
        names = [program.name for program in programs]
        supervisor.launch(programs)
        try:
            supervisor.await_ready(names, SERVERS_LIMIT_S)
            break
        except CommandError:
            supervisor.forget(names)
            if attempt + 1 == PORT_ATTEMPTS:
                raise
    s3_login = f"{secrets.s3_key}:{secrets.s3_secret}"
    pg_login = f"{postgres.USER}:{secrets.postgres_password}"
    endpoints = Endpoints(
        f"postgresql+psycopg://{pg_login}@127.0.0.1:{pg_port}/{postgres.DATABASE}",
        f"redis://:{secrets.valkey_password}@127.0.0.1:{valkey_port}/0",
        f"http://{s3_login}@127.0.0.1:{s3_port}/{rclone.BUCKET}",
    )
    flag.check()
    migrate(directory, endpoints.database_url)
    return endpoints, programs


def migrate(directory: DataDirectory, database_url: str) -> None:
    """Upgrade the schema, unless this very set of migrations has been applied here before.

    Raises:
        CommandError: a migration failed.
    """
    digest = hashlib.sha256()
    for file in sorted((SOURCE_ROOT / "migrations" / "versions").glob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    # Kept in PGDATA, so that it cannot outlive the schema it speaks of.
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


def service_environment(endpoints: Endpoints) -> dict[str, str]:
    """Return this process's environment, pointed at ``endpoints`` and cleared of what misleads."""
    foreign = (
        *("PG", "RCLONE_", "AWS_", "CELERY_", "FLOWER_", "PYTHON", "LONGHAND_SERVER"),
        "LONGHAND_HEALTH_PORT",  # the workers would all want the same one
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    no_proxy = env.get("NO_PROXY", env.get("no_proxy", ""))
    env["NO_PROXY"] = env["no_proxy"] = ",".join(filter(None, [no_proxy, "127.0.0.1,localhost"]))
    env["PYTHONPATH"] = str(SOURCE_ROOT)
    env["PYTHONUNBUFFERED"] = "1"
    if "LONGHAND_CATALOGUE" in env:  # relative to here, and services run in another folder
        env["LONGHAND_CATALOGUE"] = str(get_settings().catalogue)
    return env | endpoints.env()


def free_ports(count: int) -> list[int]:
    """Return distinct loopback TCP ports that are free at this moment.

    They lie outside the range from which the system serves whoever asks for any port, so that none
    is given away before its server listens, or while that is being started again.

    Raises:
        CommandError: there are too few.
    """
    # Where that range is all there is, a server that finds its port taken is given another.
    candidates = available_good_ports() or set(range(1024, 65_536))
    ports: list[int] = []
    for _ in range(count):
        try:
            ports.append(select_random(candidates, exclude_ports=ports))
        except PortForException as error:
            raise CommandError("no loopback port is free for the embedded servers") from error
    return ports


def _listen(port: int, option: str) -> socket.socket:
    """Bind a socket here: a taken port is told at once, and a restart of the API keeps its own."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CommandError(
            f"cannot listen on 127.0.0.1:{port}: {error.strerror}; choose another with {option}"
        ) from error
    return listener


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5):
            return True
    except OSError:
        return False
