"""What runs beside the three servers: the API, the workers, beat and Flower."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cli.embedded.child import RUN_MODULE, Program
from cli.embedded.ports import answers_http
from cli.embedded.registry import Registry
from cli.embedded.roll_call import RollCall
from cli.embedded.servers import Endpoints
from cli.embedded.watch import LOOK_LIMIT_S
from shared.infra.settings import get_settings

SOURCE_ROOT = Path(__file__).resolve().parents[2]
ALLOCATION = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "MALLOC_ARENA_MAX": "1"}
"""How glibc allocates memory in services, unless the environment says so; as in deploy/Dockerfile.

Engines take and free tens of megabytes in each call, in whichever thread. Pages of 2 MB and one
heap for all threads spare them most page faults and half of their memory (docs/performance.md).
"""


def service_environment(endpoints: Endpoints) -> dict[str, str]:
    """Return this process's environment, pointed at ``endpoints`` and cleared of what misleads."""
    foreign = (
        *("PG", "RCLONE_", "AWS_", "CELERY_", "FLOWER_", "PYTHON", "LONGHAND_SERVER"),
        "LONGHAND_HEALTH_PORT",  # the workers would all want the same one
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    env = ALLOCATION | env
    no_proxy = env.get("NO_PROXY", env.get("no_proxy", ""))
    env["NO_PROXY"] = env["no_proxy"] = ",".join(filter(None, [no_proxy, "127.0.0.1,localhost"]))
    env["PYTHONPATH"] = str(SOURCE_ROOT)
    env["PYTHONUNBUFFERED"] = "1"
    env.setdefault("LONGHAND_LOG_FORMAT", "text")  # people read these files
    env.setdefault("LONGHAND_KEEP_LISTENING_S", "inf")  # they also read along while they listen
    if "LONGHAND_CATALOGUE" in env:  # relative to here, and services run in another folder
        env["LONGHAND_CATALOGUE"] = str(get_settings().catalogue)
    if env.get("LONGHAND_MODELS_CACHE"):
        env["LONGHAND_MODELS_CACHE"] = str(get_settings().models_folder)
    return env | endpoints.env()


@dataclass(frozen=True, slots=True)
class Services:
    """Makes the programs of one stack's services."""

    env: Mapping[str, str] = field(repr=False)
    api_database_url: str = field(repr=False)
    """The API's role sees the rows of one tenant at a time; the workers' sees all."""
    folder: Path
    """Where they run."""
    roll: RollCall
    """Tells who is ready."""
    registry: Registry
    """Tells which workers still send heartbeats."""
    drain_s: float
    """How long a worker may take to finish the step in hand when it is stopped."""

    def api(self, fd: int, url: str) -> Program:
        """The API at ``url``, on a socket that it inherits: a restart keeps the address."""
        host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
        return self._program(
            "api",
            *("api", "--fd", str(fd)),
            env={**self.env, "LONGHAND_DATABASE_URL": self.api_database_url},
            address=url,
            is_ready=self.roll.api,
            look=lambda _: answers_http(port, "/health/live", within_s=LOOK_LIMIT_S, host=host),
            pass_fds=(fd,),
        )

    def worker(self, role: str, model: str | None = None) -> Program:
        """A worker: beat, worker-ROLE or worker-MODEL."""
        return self._program(
            "beat" if role == "beat" else f"worker-{model or role}",
            *("worker", role, *(("--model", model) if model else ())),
            is_ready=partial(self.roll.worker, role, model),
            look=self.registry.look,
            grace_s=self.drain_s,
        )

    def flower(self, port: int, password: str) -> Program:
        """Flower, behind a login."""
        return self._program(
            "flower",
            *("worker", "flower", f"--port={port}"),
            env={**self.env, "LONGHAND_FLOWER_PASSWORD": password},
            address=f"http://127.0.0.1:{port}",
            is_ready=lambda: answers_http(port, "/healthcheck"),
            look=lambda _: answers_http(port, "/healthcheck", within_s=LOOK_LIMIT_S),
        )

    def _program(self, name: str, *module: str, **options: Any) -> Program:
        options = {"env": self.env, "cwd": self.folder, **options}
        return Program(name, (*RUN_MODULE, *module), **options)
