"""What a person sees on stderr while work goes on: bars on a terminal, plain lines elsewhere."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from cli.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

MIN_NAME_COLUMNS, MAX_NAME_COLUMNS = 12, 32
MIN_BAR_COLUMNS, MAX_BAR_COLUMNS = 6, 24
PHASE_COLUMNS = len("downloading")
DETAIL_COLUMNS = len("RTFx 148, 1:02:03 left")
GAP = "  "


class Progress(Protocol):
    """Shows how far things are; safe to call from several threads."""

    def say(self, line: str) -> None:
        """Show a line for good."""
        ...

    def show(self, name: str, phase: str, fraction: float | None = None, detail: str = "") -> None:
        """Show that ``name`` is in ``phase``; fraction in [0, 1] done, None where nobody knows."""
        ...

    def finish(self) -> None:
        """Leave what is shown as it is; from now on there are only lines."""
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
        self.say(printable(f"{name}: {phase}{f' ({detail})' if detail else ''}"))

    def finish(self) -> None:
        pass


class TerminalProgress:
    """One line per name, redrawn in place."""

    def __init__(self, lines: "RichProgress") -> None:
        self._lines = lines
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        with suppress(OSError):
            self._lines.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, name: str, phase: str, fraction: float | None = None, detail: str = "") -> None:
        with suppress(OSError), self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._lines.add_task(printable(name), total=1.0)
            self._lines.update(
                self._tasks[name],
                completed=fraction or 0.0,
                phase=phase,
                fraction=fraction,
                detail=detail,
            )

    def finish(self) -> None:
        with suppress(OSError):
            self._lines.stop()


def duration(seconds: float) -> str:
    """Write a length of time: 8.2 s, 4:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def fit_line(name: str, phase: str, fraction: float | None, detail: str, columns: int) -> str:
    """Lay out one name's line in ``columns``: its name, a bar while it is under way, how far it is.

    Where room is short, first the bar shrinks and goes, then the detail is cut.
    """
    name_columns = max(MIN_NAME_COLUMNS, min(MAX_NAME_COLUMNS, columns // 4))
    line = _shorten(name, name_columns).ljust(name_columns) + GAP
    if fraction is not None and fraction < 1.0:
        text_columns = len(GAP) + PHASE_COLUMNS + len(GAP) + DETAIL_COLUMNS
        bar_columns = min(MAX_BAR_COLUMNS, columns - len(line) - text_columns)
        if bar_columns >= MIN_BAR_COLUMNS:
            done = int(fraction * bar_columns)
            line += "━" * done + "╌" * (bar_columns - done) + GAP
            phase = phase.ljust(PHASE_COLUMNS)
    line += f"{phase}{GAP}{detail}" if detail else phase
    return line.rstrip() if len(line) <= columns else line[: columns - 1] + "…"


def _shorten(name: str, columns: int) -> str:
    """Cut the middle out: names of one series differ at their ends."""
    if len(name) <= columns:
        return name
    tail = (columns - 1) * 2 // 3
    return f"{name[: columns - 1 - tail]}…{name[-tail:]}"


@contextmanager
def progress_on_stderr() -> Iterator[Progress]:
    """Show lines that move while the block runs if stderr is a terminal, else plain ones."""
    if not sys.stderr.isatty():
        yield PlainProgress()
        return
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    console = Console(stderr=True)

    class Line(ProgressColumn):
        def render(self, task: Task) -> Text:
            shown = task.fields
            if "phase" not in shown:
                return Text(task.description)
            line = fit_line(
                task.description, shown["phase"], shown["fraction"], shown["detail"], console.width
            )
            return Text(line, no_wrap=True, overflow="crop")

    lines = RichProgress(Line(), console=console, redirect_stdout=False, redirect_stderr=False)
    with suppress(OSError):
        lines.start()
    try:
        yield TerminalProgress(lines)
    finally:
        with suppress(OSError):
            lines.stop()
