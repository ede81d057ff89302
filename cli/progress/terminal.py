"""Progress as a block at the bottom of a terminal."""

import sys
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cli.messages import one_line
from cli.progress.figures import Total
from cli.progress.layout import fit_line, fit_total
from cli.progress.lines import Progress

SPARE_ROWS = 6
"""Rows of the terminal that the block leaves free, for what is said above it."""
ECHO_COLUMNS = len("^C")
"""Columns left free for the terminal's echo of Ctrl-C behind the block, so that the block keeps its
number of rows."""


class TerminalProgress(Progress):
    """A block with a line for each name that is under way, and one for all of them."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._lines: dict[str, tuple[str, float | None, str]] = {}
        """Phase, fraction and detail of each name."""
        self._total: Total | None = None
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
        with self._lock:
            self._lines[one_line(name)] = phase, fraction, detail

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
        self.finish()
        write()
        self._start()

    def finish(self) -> None:
        self._moves = False
        with suppress(OSError):
            self._live.stop()

    def _start(self) -> None:
        with suppress(OSError):
            self._live.start()
            self._moves = True

    def _block(self) -> Text:
        size = self._console.size
        columns = size.width - ECHO_COLUMNS
        with self._lock:
            lines = [fit_line(name, *line, columns) for name, line in self._lines.items()]
        room = max(1, size.height - SPARE_ROWS)
        if len(lines) > room:
            lines[room - 1 :] = [f"and {len(lines) - room + 1} more"]
        if self._total is not None and self._total.files > 1:
            lines.append(fit_total(self._total, columns))
        return Text("\n".join(lines), no_wrap=True, overflow="crop", end="")
