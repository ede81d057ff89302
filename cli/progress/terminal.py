"""Progress as a block at the bottom of a terminal that is drawn anew as things move."""

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.messages import one_line
from cli.progress.layout import fit_line, fit_total
from cli.progress.protocol import Total

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

SPARE_ROWS = 6
"""Rows of the terminal that the block leaves free, for what is said above it."""
ECHO_COLUMNS = len("^C")
"""Columns left free for what the terminal echoes behind the block at Ctrl-C, so that the block
keeps its number of rows."""


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
        name = one_line(name)
        with self._lock:
            shown = name in self._lines
            if fraction is None or fraction < 1.0:
                self._lines[name] = _Line(phase, fraction, detail)
                return
        if shown:
            self.leave(name, phase, detail)

    def leave(self, name: str, phase: str, detail: str = "", *, line: bool = True) -> None:
        name = one_line(name)
        with self._lock:
            self._lines.pop(name, None)
        if line:
            self.say(fit_line(name, phase, None, one_line(detail), self._console.width))

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
