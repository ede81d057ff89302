"""What a person sees on stderr while work goes on: a block that moves on a terminal, else lines."""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cli.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

TRANSCRIBING = "transcribing"
"""The phase in which what is measured is the audio: a terminal shows its percentage instead."""
TOTAL_EVERY_S = 30.0
"""How often the whole is told where nothing moves."""
MIN_NAME_COLUMNS, MAX_NAME_COLUMNS = 12, 32
MIN_BAR_COLUMNS, MAX_BAR_COLUMNS = 6, 24
PHASE_COLUMNS = len("downloading")
DETAIL_COLUMNS = len("RTFx 148, 1:02:03 left")
SPARE_ROWS = 6
"""Rows of a terminal that stay free of the block, for what is said above it."""
ECHO_COLUMNS = len("^C")
"""What the terminal shows behind the block at Ctrl-C: it must not need another row."""
GAP = "  "


@dataclass(frozen=True, slots=True)
class Total:
    """How far a batch is."""

    files: int
    done: int
    failed: int
    fraction: float
    """Of all audio, as far as its length is known or can be guessed; in [0, 1]."""
    audio_s: float
    """Transcribed so far."""
    rtfx: float | None
    """Audio per second since the batch began."""
    eta_s: float | None

    def __str__(self) -> str:
        parts = [f"{self.done}/{self.files} done"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.audio_s:
            parts.append(f"{duration(self.audio_s)} of audio")
        if self.rtfx is not None:
            parts.append(f"RTFx {factor(self.rtfx)}")
        if self.eta_s is not None:
            parts.append(f"{duration(self.eta_s)} left")
        return ", ".join(parts)


class Progress(Protocol):
    """Shows how far things are; safe to call from several threads."""

    def say(self, line: str) -> None:
        """Show a line for good."""
        ...

    def show(self, name: str, phase: str, fraction: float | None = None, detail: str = "") -> None:
        """Show that ``name`` is in ``phase``; fraction in [0, 1] done, None where nobody knows.

        At 1 it is done, and leaves a line.
        """
        ...

    def leave(self, name: str, phase: str, detail: str = "", *, line: bool = True) -> None:
        """Show that ``name`` has ended; where others move, it leaves a line only if told to."""
        ...

    def total(self, total: Total) -> None:
        """Show how far all is; call it about once a second."""
        ...

    def aside(self, write: Callable[[], None]) -> None:
        """Have something written to stdout, which may be the same terminal."""
        ...

    def finish(self) -> None:
        """Show nothing that moves any more; from now on there are only lines."""
        ...


class PlainProgress:
    """One line per change of phase, and now and then the total, for logs and pipes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._phases: dict[str, str] = {}
        self._lock = threading.Lock()
        self._clock = clock
        self._told_s = clock()

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

    def leave(self, name: str, phase: str, detail: str = "", *, line: bool = True) -> None:
        del line
        self.show(name, phase, 1.0, detail)

    def total(self, total: Total) -> None:
        if self._clock() - self._told_s >= TOTAL_EVERY_S:
            self._told_s = self._clock()
            self.say(f"longhand: {int(total.fraction * 100)} %: {total}")

    def aside(self, write: Callable[[], None]) -> None:
        write()

    def finish(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Line:
    phase: str
    fraction: float | None
    detail: str


class TerminalProgress:
    """A block at the bottom: a line for each that is under way, and one for all of them."""

    def __init__(self, console: "Console") -> None:
        from rich.live import Live

        self._console = console
        self._lines: dict[str, _Line] = {}
        self._total: Total | None = None
        self._lock = threading.Lock()
        self._live = Live(
            console=console,
            get_renderable=self._block,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._moves = False
        self._start()

    def say(self, line: str) -> None:
        with suppress(OSError):
            self._console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def show(self, name: str, phase: str, fraction: float | None = None, detail: str = "") -> None:
        name = printable(name)
        with self._lock:
            shown = name in self._lines
            if fraction is None or fraction < 1.0:
                self._lines[name] = _Line(phase, fraction, detail)
                return
        if shown:
            self.leave(name, phase, detail)

    def leave(self, name: str, phase: str, detail: str = "", *, line: bool = True) -> None:
        name = printable(name)
        with self._lock:
            self._lines.pop(name, None)
        if line:
            self.say(fit_line(name, phase, None, printable(detail), self._console.width))

    def total(self, total: Total) -> None:
        self._total = total

    def aside(self, write: Callable[[], None]) -> None:
        if not self._moves or not sys.stdout.isatty():
            write()
            return
        self._stop()
        write()
        self._start()

    def finish(self) -> None:
        self._stop()

    def _start(self) -> None:
        with suppress(OSError):
            self._live.start()
            self._moves = True

    def _stop(self) -> None:
        self._moves = False
        with suppress(OSError):
            self._live.stop()

    def _block(self) -> "Text":
        from rich.text import Text

        size = self._console.size
        columns = size.width - ECHO_COLUMNS
        with self._lock:
            lines = [
                fit_line(name, line.phase, line.fraction, line.detail, columns)
                for name, line in self._lines.items()
            ]
        room = max(1, size.height - SPARE_ROWS)
        if len(lines) > room:
            lines[room - 1 :] = [f"and {len(lines) - room + 1} more"]
        if self._total is not None and self._total.files > 1:
            lines.append(fit_total(self._total, columns))
        return Text("\n".join(lines), no_wrap=True, overflow="crop", end="")


def duration(seconds: float) -> str:
    """Write a length of time: 8.2 s, 4:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def factor(number: float) -> str:
    """Write a speed, such as RTFx: 3.7, 148."""
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"


def fit_line(name: str, phase: str, fraction: float | None, detail: str, columns: int) -> str:
    """Lay out one name's line in ``columns``: its name, a bar while it is under way, how far it is.

    Where room is short, first the bar shrinks and goes, then the detail is cut.
    """
    name_columns = max(MIN_NAME_COLUMNS, min(MAX_NAME_COLUMNS, columns // 3))
    line = _shorten(name, name_columns) + GAP
    if fraction is not None and phase == TRANSCRIBING:
        phase = f"{math.floor(fraction * 100 + 1e-6)} %"
    if fraction is not None:
        text_columns = len(GAP) + PHASE_COLUMNS + len(GAP) + DETAIL_COLUMNS
        bar = _bar(fraction, columns - name_columns - len(GAP) - text_columns)
        if bar:
            line += bar + GAP
            phase = phase.ljust(PHASE_COLUMNS)
    line += f"{phase}{GAP}{detail}" if detail else phase
    return cut(line, columns)


def fit_total(total: Total, columns: int) -> str:
    """Lay out the line for all files: a bar, if there is room, and how far they are."""
    text = str(total)
    bar = _bar(total.fraction, columns - len(text) - len(GAP))
    return cut(f"{bar}{GAP}{text}" if bar else text, columns)


def _bar(fraction: float, columns: int) -> str:
    """Draw a bar, at most as wide as there is room; nothing where it would say nothing."""
    if columns < MIN_BAR_COLUMNS:
        return ""
    columns = min(MAX_BAR_COLUMNS, columns)
    done = int(fraction * columns)
    return "━" * done + "╌" * (columns - done)


def cut(text: str, columns: int) -> str:
    """Return as much of ``text`` as fits; characters of East Asian scripts take two columns."""
    from rich.cells import cell_len, set_cell_size

    text = text.rstrip()
    return text if cell_len(text) <= columns else set_cell_size(text, columns - 1) + "…"


def _shorten(name: str, columns: int) -> str:
    """Fill or cut to ``columns``: folders go first, then the middle: a series' ends differ."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(name) > columns and "/" in name:
        name = f"…/{name.rpartition('/')[2]}"
    if cell_len(name) <= columns:
        return set_cell_size(name, columns)
    tail_columns = (columns - 1) * 2 // 3
    tail = name[-tail_columns:]
    while cell_len(tail) > tail_columns:
        tail = tail[1:]
    return set_cell_size(name, columns - 1 - cell_len(tail)) + "…" + tail


@contextmanager
def progress_on_stderr() -> Iterator[Progress]:
    """Show what moves while the block runs if stderr is a terminal, else plain lines."""
    if not sys.stderr.isatty():
        yield PlainProgress()
        return
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        yield PlainProgress()
        return
    progress = TerminalProgress(console)
    try:
        yield progress
    finally:
        progress.finish()
