"""Starts children, keeps them running and stops them in order."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from cli.embedded.child import MAX_LOG_BYTES, Child, Forked, Program
from cli.embedded.directory import DataDirectory, Purpose, StackRecord
from cli.embedded.fork_server import ForkServer
from cli.embedded.prctl import adopting
from cli.embedded.watch import LOOK_EVERY_S
from cli.errors import CommandError
from cli.signals import POLL_S, StopFlag

MAX_START_DEATHS = 3
"""The start is given up when a child has died so often."""
FORK_SERVER_LIMIT_S = 300.0
"""It imports some 2,000 files, perhaps from a slow disk."""


class Supervisor:
    """The parent of a stack's processes; for the main thread only."""

    def __init__(
        self,
        directory: DataDirectory,
        flag: StopFlag,
        say: Callable[[str], None],
        purpose: Purpose = "up",
        *,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self.api_url = ""
        self._directory = directory
        self._flag = flag
        self._say = say
        self._purpose = purpose
        self._look_every_s = look_every_s
        self._children: list[Child] = []

    def launch(self, programs: Iterable[Program], fork_server: ForkServer | None = None) -> None:
        """Start programs and do not wait for them.

        A fork server that is given, and is running, forks them and ends; else they are executed.

        Raises:
            CommandError: one cannot be executed, or the fork server fails.
            Stopped: a signal came before the fork server was ready.
        """
        children = [Child(p, self._directory.logs / f"{p.name}.log") for p in programs]
        if fork_server is not None:
            self._fork(children, fork_server)
        else:
            for child in children:
                self._children.append(child)
                self._start(child)

    def await_ready(self, names: Sequence[str], limit_s: float) -> None:
        """Wait until the named children are ready; restart those that die meanwhile.

        Raises:
            CommandError: one does not come up; the message has the last line of its log.
            Stopped: a signal came first.
        """
        deadline = time.monotonic() + limit_s
        waiting = [child for child in self._children if child.program.name in names]
        while waiting:
            self._flag.check()
            self.tend()
            for child in self._children:
                if child.deaths >= MAX_START_DEATHS:
                    raise CommandError(
                        f"{child.program.name} does not start: "
                        f"{child.last_words()} (log: {child.log})"
                    )
            waiting = [c for c in waiting if not (c.running and c.program.is_ready())]
            if waiting and time.monotonic() > deadline:
                child = waiting[0]
                raise CommandError(
                    f"{child.program.name} is not ready after {limit_s:.0f} s: "
                    f"{child.last_words()} (log: {child.log})"
                )
            self._flag.sleep(POLL_S)

    def tend(self) -> None:
        """Restart what has died, end what hangs, and bound the logs; to be called often."""
        now = time.monotonic()
        for child in self._children:
            if child.restart_at_s is not None:
                if now >= child.restart_at_s:
                    self._start(child)
            elif (code := child.exit_code()) is not None:
                told = child.ended_as_hung
                delay_s = child.note_death()
                self._write_record()
                if not told:
                    how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
                    self._say(f"{child.program.name} died ({how}); restarting in {delay_s:g} s")
            elif child.hangs:
                self._say(f"{child.program.name} hangs: it gives no sign of life; restarting it")
                child.end_as_hung()
            else:
                child.rotate_log(MAX_LOG_BYTES)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Tend the children, which are ready, until ``until()``; from now on none may hang.

        Raises:
            Stopped: a signal came first.
        """
        for child in self._children:
            child.watch(every_s=self._look_every_s)
        while not until():
            self._flag.check()
            self.tend()
            self._flag.sleep(0.1)

    def forget(self, names: Sequence[str]) -> None:
        """End the named children at once and drop them."""
        gone = [child for child in self._children if child.program.name in names]
        self._end(gone, urgent=True)
        self._children = [child for child in self._children if child not in gone]

    def stop(self, phases: Sequence[Sequence[str]]) -> None:
        """End all children in phases of names, those of one phase at the same time.

        Children that no phase names end last. A second Ctrl-C ends the rest immediately.
        """
        named = {name for phase in phases for name in phase}
        rest = [c.program.name for c in self._children if c.program.name not in named]
        for names in (*phases, rest):
            self._end([c for c in self._children if c.program.name in names], self._flag.urgent)
        self._children.clear()
        with suppress(OSError):
            self._directory.remove_record()

    def _end(self, children: Sequence[Child], urgent: bool) -> None:
        started = time.monotonic()
        for child in children:
            child.retire()
            child.send(child.program.urgent_signal if urgent else child.program.stop_signal)
        while any(child.running for child in children):
            waited_s = time.monotonic() - started
            if self._flag.urgent and not urgent:
                urgent = True
                for child in children:
                    child.send(child.program.urgent_signal)
            for child in children:
                if child.running and waited_s > child.program.grace_s:
                    child.kill_family()
            time.sleep(POLL_S)
        for child in children:
            child.kill_group()

    def _fork(self, children: Sequence[Child], server: ForkServer) -> None:
        self.await_ready([server.program.name], FORK_SERVER_LIMIT_S)
        (serving,) = (child for child in self._children if child.program is server.program)
        for child in children:
            child.rotate_log()
        with adopting():
            pids = server.fork(children)
            serving.wait()
        self._children.remove(serving)
        for child, pid in zip(children, pids, strict=True):
            child.take(Forked(pid))
            self._children.append(child)
        self._write_record()

    def _start(self, child: Child) -> None:
        try:
            child.start()
        except OSError as error:
            raise CommandError(f"{child.program.name} cannot start: {error}") from error
        self._write_record()

    def _write_record(self) -> None:
        records = tuple(r for child in self._children if (r := child.record()) is not None)
        # On a full disk a run goes on without its record; its children end with it anyway.
        with suppress(OSError):
            self._directory.write_record(
                StackRecord(self._purpose, os.getpid(), self.api_url, records)
            )
