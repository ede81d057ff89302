"""A platform of processes that a test may kill, freeze or cut off.

It has three servers of its own, two of them behind proxies, the API, beat and workers. A process
that dies is restarted. A death that the test has not caused is noted as a fault, so that the
checker knows whose work it cost. Every change of a job or a step is recorded.
"""

import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
from pydantic import SecretStr
from sqlalchemy import Engine, text

from cli.embedded import postgres, rclone, valkey
from cli.embedded.child import Child, Program, kill_group
from cli.embedded.directory import DataDirectory
from cli.embedded.ports import BACKLOG, free_ports
from harness.database.changes import record_changes
from harness.faults.history import Fault, pid_of
from harness.programs.forked import Forked
from harness.programs.workers import environment
from harness.repository.tree import ROOT
from harness.servers.hosts import NETWORK, Host
from harness.servers.proxies import Proxy
from shared.infra import database, schema
from shared.infra.errors import DatabaseUnavailable
from shared.infra.settings import Settings
from shared.infra.storage import Storage

T = TypeVar("T")

FAULTY_WORKER = Path(__file__).parent / "faulty_worker.py"
EXIT_HUNG = 70


def now() -> datetime:
    """Return the time, as the database on this machine has it, too."""
    return datetime.now(UTC)


@dataclass(slots=True)
class ForkedChild(Child):
    """A child that is forked."""

    listener: socket.socket | None = None
    """What the API inherits; a child without it is a ``faulty_worker``."""
    host: Path | None = None

    def start(self) -> None:
        """Start it; its command is what the API or the worker is told."""
        program: str | Path = FAULTY_WORKER
        arguments: list[str | socket.socket] = [*self.program.command]
        if self.listener is not None:
            program, arguments = "api", ["--fd", self.listener]
        self.process = Forked(  # type: ignore[assignment]
            program,
            arguments,
            env=self.program.env,
            cwd=self.program.cwd,
            stdout=self.log,
            host=self.host,
        )


@dataclass(slots=True, eq=False)
class Service:
    """One process of the platform that is started again when it dies."""

    child: Child
    killed: bool = False
    """The test has killed it, so its death is not a new fault."""
    paused: bool = False
    open_fault: "OpenFault | None" = None
    """The fault that is over when the restarted process is ready."""

    @property
    def name(self) -> str:
        return self.child.program.name

    @property
    def role(self) -> str:
        """Its role: the name without its number."""
        return self.name.rstrip("-12")

    @property
    def pid(self) -> int:
        assert self.child.process is not None
        return self.child.process.pid

    def family(self) -> list[psutil.Process]:
        """Return its processes: itself, and its pool's children."""
        with suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self.pid)
            return [leader, *leader.children(recursive=True)]
        return []

    def pids(self) -> frozenset[int]:
        """Return the ids of its processes."""
        return frozenset(process.pid for process in self.family())


@dataclass(frozen=True, slots=True)
class Hosts:
    """On which hosts the platform runs, where it has several: the test is on the servers' own."""

    servers: Host
    of_service: Mapping[str, Host]
    """By the name of a service; the others run on that of the servers."""


@dataclass(slots=True)
class OpenFault:
    """A fault that is not over yet."""

    kind: str
    began: datetime
    pids: Set[int] | None = frozenset()
    kills: bool = False
    noticed: bool = False
    delays: bool = False

    def over(self) -> Fault:
        """Return it as a fault that ends now."""
        pids = None if self.pids is None else frozenset(self.pids)
        return Fault(self.kind, self.began, now(), pids, self.kills, self.noticed, self.delays)


@dataclass(slots=True)
class FaultStack:
    """The running platform. Its methods belong to the main thread: processes are its children."""

    path: Path
    settings: Settings
    """As the processes have them: Redis and S3 behind the proxies."""
    database: Engine
    storage: Storage
    url: str
    redis_proxy: Proxy
    s3_proxy: Proxy
    postgres: Child
    redis: Child
    rclone: Child
    hosts: Hosts | None = None
    services: dict[str, Service] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    """Groups of earlier processes, some of whose members may still run."""
    _open: list[tuple[OpenFault, Callable[[], bool]]] = field(default_factory=list)
    _looked_at: float = 0.0

    def tend(self) -> None:
        """Restart what has died, and close the faults that are over."""
        for service in self.services.values():
            code = service.child.exit_code()
            if code is None:
                continue
            if not service.killed:
                kind = "hang" if code == EXIT_HUNG else f"crash of {service.role}"
                service.open_fault = service.open_fault or OpenFault(kind, now(), kills=True)
                service.open_fault.pids = (service.open_fault.pids or set()) | {service.pid}
            self.start(service)
        if time.monotonic() - self._looked_at < 0.25:
            return
        self._looked_at = time.monotonic()
        waiting = [service for service in self.services.values() if service.open_fault]
        if waiting:
            ready = self.ready_pids()
            for service in waiting:
                # One that was killed a moment ago may still be in the registry.
                if service.pid in ready and service.open_fault and not service.killed:
                    self.faults.append(service.open_fault.over())
                    service.open_fault = None
        for entry in [*self._open]:
            if entry[1]():
                self._open.remove(entry)
                self.faults.append(entry[0].over())

    def wait(self, condition: Callable[[], T], *, within_s: float = 120.0) -> T:
        """Poll, tending the platform meanwhile, until the condition holds; return its value."""
        deadline = time.monotonic() + within_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f"not within {within_s} s"
            self.tend()
            time.sleep(0.02)
        return value

    def pause(self, seconds: float) -> None:
        """Let time pass, tending the platform."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.tend()
            time.sleep(0.02)

    def until(self, fault: OpenFault, over: Callable[[], bool]) -> None:
        """Note a fault once it is over; the test goes on."""
        self._open.append((fault, over))

    @property
    def is_whole(self) -> bool:
        """Whether no fault is open."""
        return not self._open and not any(
            service.open_fault or service.paused for service in self.services.values()
        )

    def add_api(self, listener: socket.socket) -> Service:
        """Start the API on a socket that it inherits."""
        return self._add("api", listener=listener)

    def add_worker(self, name: str, *arguments: str, **variables: str) -> Service:
        """Start a worker; the variables are those of ``faulty_worker``."""
        return self._add(name, *arguments, env=variables)

    def _add(
        self,
        name: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        listener: socket.socket | None = None,
    ) -> Service:
        """Start a process of the platform that is to be kept running."""
        variables = environment(self.settings) | {"PYTHONPATH": str(ROOT)} | dict(env or {})
        program = Program(name, arguments, variables, cwd=self.path)
        # With a death before, its log goes on over those to come.
        child = ForkedChild(
            program, self.path / f"{name}.log", deaths=1, listener=listener, host=self._host(name)
        )
        service = self.services[name] = Service(child)
        self.start(service)
        return service

    def _host(self, name: str) -> Path | None:
        """Return where a service runs, if not where processes are forked."""
        if self.hosts is None:
            return None
        return self.hosts.of_service.get(name, self.hosts.servers).path

    def start(self, service: Service) -> None:
        """Start a service whose process is gone."""
        if service.child.process is not None:
            self.groups.append(service.pid)
        service.child.start()
        service.killed = False

    def ready_pids(self) -> set[int]:
        """Return the processes that say, by the registry or by HTTP, that they are ready."""
        pids: set[int] = set()
        with suppress(DatabaseUnavailable), database.begin(self.database) as connection:
            ids = connection.execute(text("SELECT id FROM workers WHERE state = 'ready'"))
            pids = {pid_of(each) for each in ids.scalars()}
        with suppress(httpx.HTTPError, KeyError):
            if httpx.get(f"{self.url}/health/live", timeout=1).status_code == 200:
                pids.add(self.services["api"].pid)
        return pids

    def held_by(self, pids: frozenset[int]) -> list[int]:
        """Return the steps that these processes have under lease."""
        with database.begin(self.database) as connection:
            rows = connection.execute(
                text("SELECT id, lease_owner FROM steps WHERE state = 'running'")
            )
            return [row.id for row in rows if pid_of(row.lease_owner) in pids]

    def stale_writes_refused(self) -> int:
        """Return how often a worker dropped a result because its lease was lost."""
        logs = (service.child.log for service in self.services.values())
        return sum(log.read_text(errors="replace").count("its result is dropped") for log in logs)

    def restart_postgres(self, signum: signal.Signals) -> None:
        """Stop the server, with SIGINT in order or with SIGQUIT at once, and start it."""
        assert self.postgres.process is not None
        self.postgres.send(signum)
        self.postgres.process.wait(60)
        self.postgres.start()
        self.wait(lambda: serves(self.postgres))

    def restart_redis(self, down_s: float) -> None:
        """Kill it, with all that is in it, and start it again."""
        self.redis.kill_group()
        self.pause(down_s)
        self.redis.start()
        self.wait(lambda: serves(self.redis))

    def end(self) -> None:
        """Kill everything."""
        children = [service.child for service in self.services.values()]
        for group in self.groups:
            kill_group(group, signal.SIGKILL)
        for child in [*children, self.redis, self.rclone]:
            child.kill_group()
        self.redis_proxy.close()
        self.s3_proxy.close()
        self.database.dispose()
        self.postgres.send(signal.SIGQUIT)
        if self.postgres.process is not None:
            self.postgres.process.wait(30)


def _for_all_hosts(program: Program, directory: DataDirectory) -> Program:
    """Have a server listen on all addresses of its host, not on loopback alone."""
    if program.name == "postgres":
        with (directory.postgres / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {NETWORK} scram-sha-256\n")
    elif program.name == "valkey":
        config = directory.valkey / "valkey.conf"
        config.write_text(config.read_text().replace("bind 127.0.0.1", "bind 0.0.0.0"))
    command = tuple(word.replace("127.0.0.1", "0.0.0.0") for word in program.command)
    return replace(program, command=command)


def serves(server: Child) -> bool:
    """Tell whether a server is ready; fail if it has died."""
    assert server.running, f"{server.program.name} died: {server.last_words()}"
    return server.program.is_ready()


@contextmanager
def fault_stack(path: Path, hosts: Hosts | None = None, **changes: object) -> Iterator[FaultStack]:
    """Start the servers and proxies, migrate, and yield a platform that has no services yet.

    With several hosts no proxy is used. ``changes`` are settings that are not to have their
    defaults.
    """
    directory = DataDirectory(path / "data")
    directory.create()
    secrets = directory.credentials()
    postgres.ensure_cluster(directory.postgres, secrets.postgres_password)
    pg_port, redis_port, s3_port = free_ports(3)
    programs = (
        postgres.program(directory.postgres, pg_port),
        valkey.program(directory.valkey, redis_port, secrets.valkey_password),
        rclone.program(directory.storage, s3_port, secrets.s3_key, secrets.s3_secret),
    )
    if hosts is not None:
        programs = tuple(_for_all_hosts(program, directory) for program in programs)
    servers = [Child(program, path / f"{program.name}.log", deaths=1) for program in programs]
    redis_proxy, s3_proxy = Proxy(redis_port), Proxy(s3_port)
    pg_login = f"{postgres.USER}:{secrets.postgres_password}"
    s3_login = f"{secrets.s3_key}:{secrets.s3_secret}"
    at, reached = "127.0.0.1", (redis_proxy.port, s3_proxy.port)
    if hosts is not None:
        at, reached = hosts.servers.address, (redis_port, s3_port)
    settings = Settings(
        database_url=SecretStr(
            f"postgresql+psycopg://{pg_login}@{at}:{pg_port}/{postgres.DATABASE}"
        ),
        broker_url=SecretStr(f"redis://:{secrets.valkey_password}@{at}:{reached[0]}/0"),
        storage_url=SecretStr(f"http://{s3_login}@{at}:{reached[1]}/{rclone.BUCKET}"),
        default_model="oracle",
        on_demand_models="oracle",
        outbound_http=True,
        outbound_allow=f"127.0.0.0/8,{NETWORK}",
    ).model_copy(update=changes)
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        stack = FaultStack(
            path=path,
            settings=settings,
            database=database.make_engine(settings),
            storage=Storage(settings.storage_url.get_secret_value()),
            url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            redis_proxy=redis_proxy,
            s3_proxy=s3_proxy,
            postgres=servers[0],
            redis=servers[1],
            rclone=servers[2],
            hosts=hosts,
        )
        try:
            for server in servers:
                server.start()
            stack.wait(lambda: all(map(serves, servers)))
            schema.migrate(settings)
            record_changes(stack.database)
            stack.add_api(listener)
            yield stack
        finally:
            stack.end()


def add_everything(stack: FaultStack, *, pace_s: float, **variables: str) -> None:
    """Start beat, a delivering worker and two of each other role; wait until all are ready.

    The variables are those of ``faulty_worker`` for the model workers.
    """
    variables["FAULTY_PACE_S"] = str(pace_s)
    stack.add_worker("beat", "beat")
    stack.add_worker("deliver", "deliver")
    for number in (1, 2):
        stack.add_worker(f"cpu-{number}", "cpu", "--concurrency", "1")
        stack.add_worker(f"model-{number}", "model", "--model", "oracle", **variables)
    pids = {service.pid for service in stack.services.values()}
    stack.wait(lambda: pids <= stack.ready_pids())
