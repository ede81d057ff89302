"""One child process of the supervisor: how it is started, watched and ended.

Each child leads a session and a process group of its own. So Ctrl-C in the terminal reaches only
the supervisor, and one signal to the group reaches everything that the child has forked.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cli.embedded.directory import ChildRecord
from cli.embedded.prctl import die_with
from cli.embedded.watch import Look, Watch

RUN_MODULE = (sys.executable, "-P", "-m")
"""The first words of a command that runs a Python module."""
MAX_LOG_BYTES = 20 * 1024**2
"""Size at which a log becomes SERVICE.log.1."""
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
STEADY_S = 60.0
"""A child that has run for so long is restarted with the first backoff again."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run as a child, how to tell that it is ready, and how to end it."""

    name: str
    """Shown to people, and the name of its log."""
    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    """The whole environment; ``Child`` adds the name of the log."""
    address: str = ""
    """Shown to people: where it listens."""
    is_ready: Callable[[], bool] = lambda: True
    """Polled during the start, so it answers quickly."""
    look: Look | None = None
    """Tells whether the running process hangs; None: it is not watched."""
    stop_signal: signal.Signals = signal.SIGTERM
    """Asks for a graceful end."""
    urgent_signal: signal.Signals = signal.SIGKILL
    """Asks for an immediate end that loses nothing that was promised."""
    orphan_signal: signal.Signals = signal.SIGKILL
    """Sent by the kernel (Linux) when the supervisor dies without having stopped the process."""
    grace_s: float = 5.0
    """How long the graceful end may take."""
    pass_fds: tuple[int, ...] = ()
    cwd: Path | None = None


class Forked(psutil.Process):
    """A child of this process that another process has forked."""

    def poll(self) -> int | None:
        """Return the exit code, -N if signal N ended it; None while it runs."""
        try:
            return self.wait(0)
        except psutil.TimeoutExpired:
            return None


@dataclass(slots=True)
class Child:
    """A program with its current process; start it from the main thread only.

    The parent-death signal is sent when the thread ends that has started the child.
    """

    program: Program
    log: Path
    process: psutil.Popen | Forked | None = None
    started_s: float = 0.0
    """Monotonic time of the last start."""
    deaths: int = 0
    """Unexpected exits in a row, without a steady run in between."""
    restart_at_s: float | None = None
    """Monotonic time at which a dead child is to be restarted."""
    ended_as_hung: bool = False
    """Whether the process was killed because it hung."""
    _watch: Watch | None = None

    def start(self) -> None:
        """Execute the program; its output is appended to its log.

        Raises:
            OSError: it cannot be executed.
        """
        self.rotate_log()
        parent = os.getpid()
        with self.log.open("ab") as log:
            process = psutil.Popen(
                self.program.command,
                env=self.environment(),
                cwd=self.program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=self.program.pass_fds,
                preexec_fn=lambda: die_with(parent, self.program.orphan_signal),
            )
        self.take(process)

    def environment(self) -> dict[str, str]:
        """Return the program's environment with the name of its log."""
        return {**self.program.env, "LONGHAND_LOG_NAME": self.log.name}

    def take(self, process: psutil.Popen | Forked) -> None:
        """Take this process, which has just been started, for the program's."""
        self.process = process
        self.started_s = time.monotonic()
        self.restart_at_s = None
        self.ended_as_hung = False
        if self._watch is not None:
            self._watch.follow(process.pid)

    def exit_code(self) -> int | None:
        """Return the exit code, -N if signal N ended the process; None while it runs."""
        return self.process.poll() if self.process else None

    @property
    def running(self) -> bool:
        """Whether there is a live process."""
        return self.process is not None and self.exit_code() is None

    def watch(self, *, every_s: float) -> None:
        """Look for signs of life from now on, in this process and its successors."""
        if self._watch is None and self.program.look is not None and self.process is not None:
            self._watch = Watch(self.program.look, self.process.pid, every_s=every_s)

    @property
    def hangs(self) -> bool:
        """Whether the process has given no sign of life for too long."""
        return self._watch is not None and self._watch.finds_hung

    def end_as_hung(self) -> None:
        """Kill the process, so that it is restarted."""
        self.ended_as_hung = True
        if self._watch is not None:
            self._watch.follow(None)
        self.kill_family()

    def retire(self) -> None:
        """Neither restart the process nor look at it any more."""
        self.restart_at_s = None
        if self._watch is not None:
            self._watch.end()
            self._watch = None

    def note_death(self) -> float:
        """Count an unexpected exit; return the seconds until the next start."""
        if time.monotonic() - self.started_s >= STEADY_S:
            self.deaths = 0
        delay_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0**self.deaths)
        self.deaths += 1
        self.restart_at_s = time.monotonic() + delay_s
        if self._watch is not None:
            self._watch.follow(None)
        self.kill_group()
        return delay_s

    def send(self, signum: signal.Signals) -> None:
        """Signal the process alone: a Celery parent or a postmaster ends its own children."""
        if self.process is not None and self.running:
            self.process.send_signal(signum)

    def wait(self) -> None:
        """Wait until the process has ended."""
        if self.process is not None:
            self.process.wait()

    def kill_group(self) -> None:
        """SIGKILL the process and its group, and wait for the process."""
        if self.process is not None:
            kill_group(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def kill_family(self) -> None:
        """SIGKILL the process and all that it forked, without waiting for their ends.

        A process that waits for a disk in the kernel ends only when the disk answers.
        """
        if self.process is not None:
            kill_family(self.process.pid)

    def record(self) -> ChildRecord | None:
        """Return the entry of the live process in stack.json."""
        if self.process is None or not self.running:
            return None
        return ChildRecord(self.program.name, self.process.pid, self.process.create_time())

    def rotate_log(self, max_bytes: int = 0) -> None:
        """Move a log of more than ``max_bytes`` to SERVICE.log.1.

        The log is copied and truncated, because the running process has it open.
        """
        if self.log.exists() and self.log.stat().st_size > max_bytes and not self.deaths:
            shutil.copyfile(self.log, self.log.with_name(self.log.name + ".1"))
            os.truncate(self.log, 0)

    def last_words(self) -> str:
        """Return the log's last line, or the last one that tells of a full disk."""
        lines: list[str] = []
        with suppress(OSError):
            lines = self.log.read_bytes()[-4096:].decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()] or ["it said nothing"]
        return ([line for line in said if "No space left on device" in line] or said)[-1]


def kill_group(pid: int, signum: signal.Signals) -> None:
    """Signal the process group that ``pid`` leads, if there is one."""
    # macOS answers EPERM for a group of zombies.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


def kill_family(pid: int) -> None:
    """SIGKILL a process, its group, and descendants in other groups, such as Postgres' backends."""
    with suppress(psutil.NoSuchProcess):
        for descendant in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                descendant.kill()
    kill_group(pid, signal.SIGKILL)
