"""What a person sees on stderr while work goes on: bars on a terminal, plain lines elsewhere."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Progress(Protocol):
    """Shows how far things are; safe to call from several threads."""

    def say(self, line: str) -> None:
        """Show a line for good."""
        ...

    def show(self, name: str, phase: str, fraction: float | None = None, detail: str = "") -> None:
        """Show that ``name`` is in ``phase``; fraction in [0, 1] done, None where nobody knows."""
        ...


class PlainProgress:
    """One line per change of phase, for logs and pipes."""

    def __init__(self) -> None:
        self._phases: dict[str, str] = {}
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        # The terminal may be gone; the work, and above all its clean end, is not to fail of that.
        with suppress(OSError):
            sys.stderr.write(line + "\n")  # in one piece: several threads speak
            sys.stderr.flush()

    def show(self, name: str, phase: str, fraction: float | None = None, detail: str = "") -> None:
        del fraction
        with self._lock:
            if self._phases.get(name) == phase:
                return
            self._phases[name] = phase
        self.say(f"{name}: {phase}{f' ({detail})' if detail else ''}")


class TerminalProgress:
    """One bar per name, redrawn in place."""

    def __init__(self, bars: "RichProgress") -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        with suppress(OSError):
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, name: str, phase: str, fraction: float | None = None, detail: str = "") -> None:
        with suppress(OSError), self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=None, phase="", detail="")
            task = self._tasks[name]
            self._bars.update(task, phase=phase, detail=detail)
            if fraction is None:
                self._bars.update(task, total=None)
            else:
                self._bars.update(task, total=1.0, completed=fraction)


@contextmanager
def progress_on_stderr() -> Iterator[Progress]:
    """Show bars while the block runs if stderr is a terminal, else lines."""
    if not sys.stderr.isatty():
        yield PlainProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    bars = RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[phase]}", markup=False),
        TextColumn("{task.fields[detail]}", markup=False, style="dim"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with suppress(OSError):
        bars.start()
    try:
        yield TerminalProgress(bars)
    finally:
        with suppress(OSError):
            bars.stop()
