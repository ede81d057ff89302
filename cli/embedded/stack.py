"""The embedded stack: what it runs, and in which order it starts and stops.

It starts in three steps:

1. Postgres, Valkey and rclone, each on a free loopback port, and the fork server (Linux)
2. the schema is migrated in this process, if the migrations have changed
3. the API, the CPU worker, model workers, perhaps the diarization worker, the delivery worker, beat
   and, if asked for, Flower
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cli.embedded.child import Program
from cli.embedded.directory import DataDirectory, Purpose
from cli.embedded.first_key import make_first_key
from cli.embedded.fork_server import ForkServer
from cli.embedded.leftovers import end_leftovers
from cli.embedded.ports import listen, reachable
from cli.embedded.registry import Registry
from cli.embedded.roll_call import RollCall
from cli.embedded.servers import Endpoints, start_servers
from cli.embedded.services import Services, service_environment
from cli.embedded.supervisor import Supervisor
from cli.signals import StopFlag, Stopped
from shared.infra.settings import get_settings

FLOWER_PASSWORD = "LONGHAND_FLOWER_PASSWORD"  # noqa: S105 - the variable's name
READY_LIMIT_S = 300.0
"""A large model on a slow disk takes minutes to load."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a stack is to run."""

    models: tuple[str, ...]
    """Catalogue ids, one model worker each; the first is the default for jobs that name none."""
    diarization: str | None = None
    """The catalogue id of the model that tells speakers apart; None: none does."""
    port: int = 0
    """The API's; 0 for any free one."""
    host: str = "127.0.0.1"
    """The API's address. On any but loopback it asks for keys."""
    flower_port: int | None = None
    """Flower's; None for no Flower."""
    purpose: Purpose = "up"
    drain_s: float = 15.0
    """How long a worker may take to finish the step in hand when it is stopped."""


class Stack:
    """One running embedded stack; ``running_stack`` makes it."""

    def __init__(
        self, directory: DataDirectory, plan: Plan, flag: StopFlag, say: Callable[[str], None]
    ) -> None:
        """Bind the API's port; nothing is started yet.

        Raises:
            CommandError: a port is taken.
            UnsafeSetting: keys are turned off, and strangers could reach the API.
        """
        self._asks_for_keys = plan.purpose == "up" and get_settings().asks_for_keys(plan.host)
        self._plan = plan
        self._directory = directory
        self._flag = flag
        self._say = say
        self._supervisor = Supervisor(directory, flag, say, plan.purpose)
        self._fork_server: ForkServer | None = None
        self._services: list[Program] = []
        self._servers: list[Program] = []
        if plan.flower_port is not None:  # if it is taken, nothing shall be started
            listen(plan.flower_port, "--flower-port").close()
        self._listener = listen(plan.port, "--port", plan.host)
        host, port = reachable(plan.host), self._listener.getsockname()[1]
        self.api_url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._supervisor.api_url = self.api_url
        self.first_key: str | None = None
        """An administrator's key, if there was none yet and the API asks for keys."""

    @property
    def flower_secret(self) -> str:
        """Where Flower's password is found."""
        if os.environ.get(FLOWER_PASSWORD):
            return FLOWER_PASSWORD
        return f"{self._directory.credentials_file} (flower_password)"

    @property
    def programs(self) -> list[Program]:
        """What runs."""
        return self._servers + self._services

    def start(self) -> None:
        """Start everything and wait until jobs can be taken and done.

        Raises:
            CommandError: a part does not come up.
            Stopped: a signal came first.
        """
        endpoints, self._servers = start_servers(
            self._directory, self._supervisor, self._flag, self._say, self._prepare_services
        )
        if self._asks_for_keys:
            self.first_key = make_first_key(endpoints.database_url)
        self._supervisor.launch(self._services, self._fork_server)
        self._supervisor.await_ready([program.name for program in self._services], READY_LIMIT_S)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Keep it running until ``until()``; raises ``Stopped`` when a signal comes first."""
        self._supervisor.run(until)

    def stop(self) -> None:
        """Stop what takes jobs, then what does them, then the servers."""
        faces = ["api", "flower"]
        workers = [service.name for service in self._services if service.name not in faces]
        self._supervisor.stop((faces, workers, ["valkey", "rclone"], ["postgres"]))
        self._listener.close()

    def _prepare_services(self, endpoints: Endpoints) -> list[Program]:
        """Make the services' programs; return the fork server's, to be started with the servers."""
        env = service_environment(endpoints) | {
            "LONGHAND_DEFAULT_MODEL": self._plan.models[0],
            "LONGHAND_AUTH": "on" if self._asks_for_keys else "off",
        }
        registry = Registry(endpoints.worker_database_url)
        services = Services(
            env=env,
            api_database_url=endpoints.api_database_url,
            folder=self._directory.path,
            roll=RollCall(self.api_url, registry if self._asks_for_keys else None),
            registry=registry,
            drain_s=self._plan.drain_s,
        )
        self._services = [
            services.api(self._listener.fileno(), self.api_url),
            services.worker("cpu"),
            *(services.worker("model", model) for model in self._plan.models),
            *(services.worker("diarize", model) for model in (self._plan.diarization,) if model),
            services.worker("deliver"),
            services.worker("beat"),
        ]
        if (port := self._plan.flower_port) is not None:
            chosen = os.environ.get(FLOWER_PASSWORD)
            password = chosen or self._directory.credentials().flower_password
            self._services.append(services.flower(port, password))
        if sys.platform != "linux":
            return []
        self._fork_server = ForkServer(self._services)
        return [self._fork_server.program]


@contextmanager
def running_stack(
    directory: DataDirectory, plan: Plan, flag: StopFlag, say: Callable[[str], None]
) -> Iterator[Stack]:
    """Lock the directory, end what a killed run has left, and run a stack while the block runs.

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
