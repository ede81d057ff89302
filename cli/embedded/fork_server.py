"""A process that imports the services' code once, forks the services, and ends (Linux only).

A service that is executed spends about a second of processor time on imports, most of which the
other services need as well. Forked services share that second, and the memory of what was imported.
Once the fork server has ended they are children of the supervisor, as if it had executed them: they
end with it, and those that die are executed anew.
"""

import gc
import importlib
import json
import os
import runpy
import socket
import sys
import time
from collections.abc import Sequence
from select import select
from typing import Any

from cli.embedded.child import RUN_MODULE, Child, Program
from cli.embedded.prctl import die_with, set_name
from cli.errors import CommandError, os_reason

IMPORTED = (
    "anyio._backends._asyncio",
    "api.app",
    "celery.apps.worker",
    "celery.concurrency.prefork",
    "celery.worker.consumer",
    "kombu.transport.redis",
    "sqlalchemy.dialects.postgresql.psycopg",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "worker.steps.prepare",
    "worker.steps.transcribe",
    "worker.upkeep.beat",
)
"""Modules that import nearly all that the services need. Meanwhile they read no setting, start no
Python thread and open no file."""

READY = b"ready\n"
REPLY_LIMIT_S = 60.0
"""Forking takes some hundredths of a second."""


class ForkServer:
    """The supervisor's side of a fork server, whose ``program`` is started like any other."""

    def __init__(self, services: Sequence[Program]) -> None:
        """Make one for these services, which share one environment and one folder."""
        self._ours, self._theirs = socket.socketpair()
        fds = {self._theirs.fileno()}.union(*(service.pass_fds for service in services))
        self.program = Program(
            "fork-server",
            (*RUN_MODULE, __name__, str(self._theirs.fileno())),
            services[0].env,
            cwd=services[0].cwd,
            is_ready=lambda: bool(select([self._ours], [], [], 0)[0]),
            pass_fds=tuple(fds),
        )

    def fork(self, children: Sequence[Child]) -> list[int]:
        """Have a ready server fork the children's processes and end; return the pids.

        Raises:
            CommandError: it has died instead, or hangs.
        """
        self._theirs.close()  # so that its end is noticed
        with self._ours as connection:
            connection.settimeout(REPLY_LIMIT_S)
            try:
                connection.sendall(json.dumps([_order(child) for child in children]).encode())
                connection.shutdown(socket.SHUT_WR)
                received = b"".join(iter(lambda: connection.recv(4096), b""))
            except OSError as error:
                raise CommandError(f"{self.program.name}: {os_reason(error)}") from error
        said = received.rpartition(READY)[2]
        if not said:
            raise CommandError(f"{self.program.name} died")
        pids: list[int] = json.loads(said)
        return pids


def _order(child: Child) -> dict[str, Any]:
    program = child.program
    return {
        "name": program.name,
        "module": program.command[len(RUN_MODULE) :],
        "environment": child.environment(),
        "log": str(child.log),
        "fds": program.pass_fds,
        "orphan_signal": program.orphan_signal,
    }


def serve(connection: socket.socket) -> None:
    """Import, report readiness, fork what is ordered and end; a child returns when it is done."""
    gc.disable()  # imports make hardly any garbage, and collections would take 0.2 s
    for name in IMPORTED:
        importlib.import_module(name)
    from shared.infra.storage import Storage  # here, because boto3 would take the supervisor 0.1 s

    # The first client of a process has botocore parse its description of S3, which takes 0.1 s.
    Storage("http://key:secret@127.0.0.1/unused")
    gc.freeze()  # a collection would write to the pages that the children share
    connection.sendall(READY)
    with connection.makefile() as stream:
        orders = json.load(stream)
    supervisor, server = os.getppid(), os.getpid()
    pids = []
    for order in orders:
        pid = os.fork()
        if pid == 0:
            connection.close()
            for fd in {fd for each in orders for fd in each["fds"]}.difference(order["fds"]):
                os.close(fd)
            while os.getppid() == server:
                time.sleep(0.001)
            _become(order, supervisor)
            return
        pids.append(pid)
    connection.sendall(json.dumps(pids).encode())
    os._exit(0)  # at once, because the children wait for this end


def _become(order: dict[str, Any], supervisor: int) -> None:
    """Be the process that the supervisor would have executed."""
    os.setsid()
    die_with(supervisor, order["orphan_signal"])
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    set_name(order["name"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = order["module"]
    gc.enable()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
