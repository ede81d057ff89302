"""Real worker processes for tests, and waiting for what they do."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from harness.programs.forked import Forked
from harness.repository.tree import ROOT
from shared.infra.settings import Settings

T = TypeVar("T")

FAULTY_WORKER = ROOT / "tests/harness/faults/faulty_worker.py"


def environment(settings: Settings) -> dict[str, str]:
    """The variables from which a process reads exactly these settings."""
    variables = dict(os.environ)
    for name in Settings.model_fields:
        value = getattr(settings, name)
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        variables[f"LONGHAND_{name.upper()}"] = str(plain)
    return variables


def wait_until(condition: Callable[[], T], *, within_s: float = 60.0) -> T:
    """Poll until the condition holds, and return its value."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.02)
    return value


class Worker:
    """A forked ``python -m worker`` in a group of its own; with faults, ``faulty_worker``."""

    def __init__(self, settings: Settings, log: Path, *arguments: str, **faults: str) -> None:
        self._log = log
        self.process = Forked(
            FAULTY_WORKER if faults else "worker",
            arguments,
            env=environment(settings) | {"PYTHONPATH": str(ROOT)} | faults,
            stdout=log,
        )

    @property
    def log(self) -> str:
        """What it said so far."""
        return self._log.read_text(errors="replace")

    @property
    def bugs(self) -> list[str]:
        """Its tracebacks, a line each, but Celery's own: it may tell so of a lost Redis."""
        lines = [line for line in self.log.splitlines() if "Traceback" in line]
        return [line for line in lines if '"logger": "celery.worker.loops"' not in line]

    def signal(self, signum: signal.Signals) -> None:
        """Signal the process and its children."""
        os.killpg(self.process.pid, signum)

    def kill(self) -> None:
        """``kill -9``, children included."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, within_s: float = 60.0) -> int:
        """Ask for an orderly end, as a supervisor would; return the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Fleet:
    """The workers of one test; whatever is left of them ends with it."""

    def __init__(self, settings: Settings, logs: Path) -> None:
        self.settings = settings
        self.logs = logs
        self._workers: list[Worker] = []

    def start(self, *arguments: str, **faults: str) -> Worker:
        """Start ``python -m worker ARGUMENTS``; with variables of ``faulty_worker``, that."""
        log = self.logs / f"{len(self._workers)}-{arguments[0]}.log"
        worker = Worker(self.settings, log, *arguments, **faults)
        self._workers.append(worker)
        return worker

    def end(self) -> None:
        """Kill what still runs."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.kill()


@contextmanager
def fleet(settings: Settings, logs: Path) -> Iterator[Fleet]:
    """Yield an empty fleet and end it afterwards."""
    workers = Fleet(settings, logs)
    try:
        yield workers
    finally:
        workers.end()
