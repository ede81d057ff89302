"""Progress as a block at the bottom of a terminal, whose lines are fitted into its columns."""

import math
import sys
from collections.abc import Callable
from contextlib import suppress

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.live import Live
from rich.text import Text

from cli.messages import one_line
from cli.progress.figures import Total
from cli.progress.lines import TRANSCRIBING, Progress

SPARE_ROWS = 6
"""Rows of the terminal that the block leaves free, for what is said above it."""
ECHO_COLUMNS = len("^C")
"""Columns left free for the terminal's echo of Ctrl-C behind the block, so that the block keeps its
number of rows."""
MIN_NAME_COLUMNS, MAX_NAME_COLUMNS = 12, 32
MIN_BAR_COLUMNS, MAX_BAR_COLUMNS = 6, 24
PHASE_COLUMNS = len("downloading")
DETAIL_COLUMNS = len("RTFx 148, 1:02:03 left")
GAP = "  "


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


def fit_line(name: str, phase: str, fraction: float | None, detail: str, columns: int) -> str:
    """Lay out one name's line: name, a bar while it is under way, phase or percentage, detail.

    In a narrow terminal the bar shrinks, then disappears, then the detail is cut.
    """
    name_columns = max(MIN_NAME_COLUMNS, min(MAX_NAME_COLUMNS, columns // 3))
    line = _shorten(name, name_columns) + GAP
    if fraction is not None:
        if phase == TRANSCRIBING:
            phase = f"{math.floor(fraction * 100 + 1e-6)} %"
        text_columns = len(GAP) + PHASE_COLUMNS + len(GAP) + DETAIL_COLUMNS
        if bar := _bar(fraction, columns - name_columns - len(GAP) - text_columns):
            line += bar + GAP
            phase = phase.ljust(PHASE_COLUMNS)
    line += f"{phase}{GAP}{detail}" if detail else phase
    return _cut(line, columns)


def fit_total(total: Total, columns: int) -> str:
    """Lay out the line for the whole batch: a bar if there is room, and the total."""
    text = str(total)
    bar = _bar(total.fraction, columns - len(text) - len(GAP))
    return _cut(f"{bar}{GAP}{text}" if bar else text, columns)


def _bar(fraction: float, columns: int) -> str:
    """Draw a bar of at most ``columns``; '' if it would be too short to be of use."""
    if columns < MIN_BAR_COLUMNS:
        return ""
    columns = min(MAX_BAR_COLUMNS, columns)
    done = int(fraction * columns)
    return "━" * done + "╌" * (columns - done)


def _cut(text: str, columns: int) -> str:
    """Return as much of ``text`` as fits; wide characters (East Asian) take two columns."""
    text = text.rstrip()
    return text if cell_len(text) <= columns else set_cell_size(text, columns - 1) + "…"


def _shorten(name: str, columns: int) -> str:
    """Fill or cut a name to ``columns``.

    Its folders are cut first, then its middle: names of a series of recordings differ at the end.
    """
    if cell_len(name) > columns and "/" in name:
        name = f"…/{name.rpartition('/')[2]}"
    if cell_len(name) <= columns:
        return set_cell_size(name, columns)
    tail_columns = (columns - 1) * 2 // 3
    tail = name[-tail_columns:]
    while cell_len(tail) > tail_columns:
        tail = tail[1:]
    return set_cell_size(name, columns - 1 - cell_len(tail)) + "…" + tail
