"""One child process of the supervisor: how it is started, watched and ended.

Each child leads a session of its own: Ctrl-C in the terminal reaches the supervisor alone, and the
process group named by the child's pid holds everything that the child forks.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cli.embedded.directory import ChildRecord
from cli.embedded.prctl import die_with
from cli.embedded.watch import Look, Watch

RUN_MODULE = (sys.executable, "-P", "-m")
"""How the command of a program begins that is a module of ours."""
MAX_LOG_BYTES = 20 * 1024**2
"""A log grows to this, then becomes SERVICE.log.1."""
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
STEADY_S = 60.0
"""A child that lived this long starts again without a delay inherited from earlier deaths."""


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Program:
    """What to run as a child, and how to tell that it is ready and how to end it."""

    name: str
    """For people, and the name of its log."""
    command: tuple[str, ...]
    env: Mapping[str, str]
    """The environment, nothing inherited; ``Child`` adds the name of the log."""
    address: str = ""
    """For people: where it listens, with the login where they need one to look at it."""
    is_ready: Callable[[], bool] = _always
    """Cheap and quick to answer; polled while starting."""
    look: Look | None = None
    """Tells whether the running process hangs; None: nobody looks."""
    stop_signal: signal.Signals = signal.SIGTERM
    """Asks for a graceful end."""
    urgent_signal: signal.Signals = signal.SIGKILL
    """Asks for an end now that loses nothing already promised."""
    orphan_signal: signal.Signals = signal.SIGKILL
    """Sent by the kernel (Linux) when the supervisor dies without having stopped it."""
    grace_s: float = 5.0
    """How long the graceful end may take."""
    pass_fds: tuple[int, ...] = ()
    cwd: Path | None = None


class Forked:
    """A child of this process that another has forked; as much of ``Popen`` as is needed here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, -N where signal N ended it; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self) -> int:
        """Wait until it has ended and return its exit code."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def send_signal(self, signum: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)


@dataclass(slots=True)
class Child:
    """A program with its current process; start it from the main thread only.

    PR_SET_PDEATHSIG belongs to the thread that forked: a child started by another thread would be
    killed as soon as that thread ends.
    """

    program: Program
    log: Path
    process: subprocess.Popen[bytes] | Forked | None = None
    created_at: float = 0.0
    started_s: float = 0.0
    """Monotonic time of the last start."""
    deaths: int = 0
    """Unasked-for exits in a row, without a steady run in between."""
    restart_at_s: float | None = None
    """Monotonic time at which a dead child is to be started again."""
    ended_as_hung: bool = False
    """Whether the process was killed because it hung."""
    _watch: Watch | None = None

    def start(self) -> None:
        """Start the program, its output appended to its log, whose name it is told.

        Raises:
            OSError: it cannot be executed.
        """
        self.rotate_log()
        parent = os.getpid()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.program.command,
                env=self.environment(),
                cwd=self.program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=self.program.pass_fds,
                preexec_fn=lambda: die_with(parent, self.program.orphan_signal),  # noqa: PLW1509
            )
        self.take(process)

    def environment(self) -> dict[str, str]:
        """The program's environment, with the name of its log."""
        return {**self.program.env, "LONGHAND_LOG_NAME": self.log.name}

    def take(self, process: subprocess.Popen[bytes] | Forked) -> None:
        """Note that this process, just started, runs the program."""
        self.process = process
        self.created_at = _created_at(process.pid)
        self.started_s = time.monotonic()
        self.restart_at_s = None
        self.ended_as_hung = False
        if self._watch is not None:
            self._watch.follow(process.pid)

    def exit_code(self) -> int | None:
        """The exit code, -N where signal N ended it; None while it runs."""
        return self.process.poll() if self.process else None

    @property
    def running(self) -> bool:
        """Whether there is a live process."""
        return self.process is not None and self.process.poll() is None

    def watch(self, *, every_s: float) -> None:
        """Look for signs of life from now on, in this process and those that take its place."""
        if self._watch is None and self.program.look is not None and self.process is not None:
            self._watch = Watch(self.program.look, self.process.pid, every_s=every_s)

    @property
    def hangs(self) -> bool:
        """Whether the process runs and has given no sign of life for too long."""
        return self._watch is not None and self._watch.finds_hung

    def end_as_hung(self) -> None:
        """Kill the process, to be started anew."""
        self.ended_as_hung = True
        if self._watch is not None:
            self._watch.follow(None)
        self.kill_family()

    def retire(self) -> None:
        """Neither restart the process nor look at it any more: it is about to be ended."""
        self.restart_at_s = None
        if self._watch is not None:
            self._watch.end()
            self._watch = None

    def note_death(self) -> float:
        """Count an unasked-for exit; return the seconds to wait before the next start."""
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
        """Signal the process itself: a Celery parent or a postmaster ends its own children."""
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
        """SIGKILL the process with all that it forked, and wait for none of them.

        A process that waits for a disk in the kernel does not end before that answers.
        """
        if self.process is not None:
            kill_family(self.process.pid)

    def record(self) -> ChildRecord | None:
        """The live process, as noted in stack.json."""
        if self.process is None or not self.running:
            return None
        return ChildRecord(self.program.name, self.process.pid, self.created_at)

    def rotate_log(self, max_bytes: int = 0) -> None:
        """Keep at most ``max_bytes`` of log, and as much again of the log before it.

        The log is copied and truncated, not renamed: the running process has it open.
        """
        if self.log.exists() and self.log.stat().st_size > max_bytes and not self.deaths:
            shutil.copyfile(self.log, self.log.with_name(self.log.name + ".1"))
            os.truncate(self.log, 0)

    def last_words(self) -> str:
        """The log's last line, for an error of one line, or the one that tells of a full disk."""
        with suppress(OSError):
            lines = self.log.read_bytes()[-4096:].decode(errors="replace").splitlines()
            full = [line for line in lines if "No space left on device" in line] or [
                line for line in lines if line.strip()
            ]
            if full:
                return full[-1].strip()
        return "it said nothing"


def kill_group(pid: int, signum: signal.Signals) -> None:
    """Signal the process group that ``pid`` leads, if there is (still) one."""
    # EPERM is what macOS says of a group of zombies.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


def kill_family(pid: int) -> None:
    """SIGKILL a process, its group, and descendants that left it, as Postgres' sessions do."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        for descendant in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                descendant.kill()
    kill_group(pid, signal.SIGKILL)


def _created_at(pid: int) -> float:
    import psutil

    # A child that has ended stays a zombie until we wait for it, so it still has a start time.
    return float(psutil.Process(pid).create_time())
