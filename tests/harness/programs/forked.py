"""Python programs without their start: each is forked from a process that has imported most of it.

Starting Python and importing Celery, SQLAlchemy and NumPy takes a second of processor time; a fork
takes some hundredths. A forked program is a process of its own, with its own session, environment,
folder, signals and exit code. It does not show that the program starts by itself: tests of what
`longhand up`, the documents and the first run start show that.
"""

import atexit
import gc
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

from harness.servers.hosts import enter

PRELOADED = (
    "tests.harness.programs.sdk_path",  # first: the next ones import the SDK
    "alembic.command",
    "api.app",
    "av",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.concurrency.prefork",
    "celery.concurrency.thread",
    "celery.worker.autoscale",
    "celery.worker.consumer",
    "cli.commands.transcribe",
    "cli.commands.up",
    "cli.embedded.stack",
    "cli.transcribe.run",
    "flower.command",
    "http.server",
    "httpx",
    "kombu.transport.redis",
    "onnxruntime",
    "prometheus_client.exposition",
    "psutil",
    "rich.live",
    "rich.progress",
    "shared.queue.wakeups",
    "shared.store.steps",
    "sqlalchemy.dialects.postgresql.psycopg",
    "uvicorn.protocols.http.httptools_impl",
    "worker.engines.oracle",
    "worker.media.container",
    "worker.media.planner",
)
NOT_PRELOADED = ("huggingface_hub", "worker.app", "worker.process.drain")
"""The first two read variables when they are imported, the third makes memory that forks share."""

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([*PRELOADED])


def start_server() -> None:
    """Have the process that is forked run on the host on which this thread is now."""
    forkserver.ensure_running()


@atexit.register
def _end_all() -> None:
    """Leave none behind, for which this process would wait when it ends."""
    for process in multiprocessing.active_children():
        process.kill()


class Forked:
    """A running program, with what tests use of ``subprocess.Popen``."""

    def __init__(
        self,
        program: str | Path,
        arguments: Sequence[str | socket.socket],
        *,
        env: Mapping[str, str],
        stdout: Path,
        stderr: Path | None = None,
        cwd: Path | None = None,
        host: Path | None = None,
    ) -> None:
        """Run a module, as by ``python -m``, or a script. What it writes is appended to files.

        Without ``stderr`` both streams go to one file. A socket among the arguments is inherited;
        the program is told the number of its descriptor. ``host`` is the network namespace in which
        it runs.
        """
        for log in (stdout, stderr or stdout):
            log.touch()
        ours, theirs = _server.Pipe(duplex=False)
        self._process = _server.Process(
            target=_become,
            args=(
                program,
                [*arguments],
                dict(env),
                stdout,
                stderr,
                cwd or Path.cwd(),
                host,
                theirs,
            ),
        )
        self._process.start()
        theirs.close()
        with ours, suppress(EOFError):
            ours.recv_bytes()  # it leads its session now
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return self._process.exitcode

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    program: str | Path,
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as ``subprocess.run`` does it."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        process = Forked(program, arguments, env=env, cwd=cwd, stdout=stdout, stderr=stderr)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(
            [str(program), *arguments], code, stdout.read_text(), stderr.read_text()
        )


def _become(
    program: str | Path,
    arguments: list[str | socket.socket],
    env: dict[str, str],
    stdout: Path,
    stderr: Path | None,
    cwd: Path,
    host: Path | None,
    started: Connection,
) -> None:
    """Run the program in this process, which ends with it."""
    gc.freeze()  # a collection would look through all that was preloaded, and copy its pages
    too_early = [name for name in NOT_PRELOADED if name in sys.modules]
    assert not too_early, too_early
    os.setsid()
    if host is not None:
        enter(host)
    started.send_bytes(b"")
    started.close()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, path in enumerate((Path(os.devnull), stdout, stderr or stdout)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(descriptor, number)
        os.close(descriptor)
    encoding = env.get("PYTHONIOENCODING", "utf-8")
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )
    sys.argv = [
        str(program),
        *(each if isinstance(each, str) else str(each.fileno()) for each in arguments),
    ]
    if isinstance(program, Path):
        runpy.run_path(str(program), run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
