"""What is shown of a live session: finals as lines, and the text that still changes."""

import sys
from contextlib import suppress

from rich.cells import cell_len
from rich.console import Console

from cli.messages import one_line, warning
from cli.transcribe.streams import print_text

CLEAR_LINE = "\r\x1b[K"


class Captions:
    """Finals go to stdout. Partials go to a line of stderr that changes, if that is a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._moves = sys.stderr.isatty() and not self._console.is_dumb_terminal

    def partial(self, text: str) -> None:
        """Show what has been said so far of what is being said."""
        if self._moves:
            self._show(CLEAR_LINE + last_columns(one_line(text), self._console.width - 1))

    def final(self, text: str) -> None:
        """Print what has been said; silence is not printed.

        Raises:
            BrokenPipeError: nobody reads it any more.
            CommandError: it cannot be written.
        """
        self.clear()
        if text:
            print_text(one_line(text))

    def warn(self, sentence: str) -> None:
        """Show a warning."""
        self.clear()
        self._show(warning(sentence) + "\n")

    def clear(self) -> None:
        """Remove the line that changes."""
        if self._moves:
            self._show(CLEAR_LINE)

    def _show(self, text: str) -> None:
        with suppress(OSError):  # the terminal may be gone, and the text goes on
            sys.stderr.write(text)
            sys.stderr.flush()


def last_columns(text: str, columns: int) -> str:
    """Return the end of ``text`` that fits; wide characters (East Asian) take two columns."""
    if cell_len(text) <= columns:
        return text
    left = columns - 1
    start = len(text)
    while start > 0 and (width := cell_len(text[start - 1])) <= left:
        left -= width
        start -= 1
    return "…" + text[start:]
