"""How a line of progress is fitted into the columns of a terminal."""

import math

from rich.cells import cell_len, set_cell_size

from cli.progress.figures import Total
from cli.progress.lines import TRANSCRIBING

MIN_NAME_COLUMNS, MAX_NAME_COLUMNS = 12, 32
MIN_BAR_COLUMNS, MAX_BAR_COLUMNS = 6, 24
PHASE_COLUMNS = len("downloading")
DETAIL_COLUMNS = len("RTFx 148, 1:02:03 left")
GAP = "  "


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
