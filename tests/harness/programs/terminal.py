"""A terminal for programs that redraw a few lines: what is on its screen, and what has left it."""

import re
import unicodedata

_CONTROL = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\x1b\]8;[^\x1b]*\x1b\\")


class Terminal:
    """Understands text, line ends, colours, erasing a line and moving the cursor up, no more."""

    def __init__(self, rows: int = 24, columns: int = 80, *, at_row: int = 0) -> None:
        self.screen = [""] * rows
        self.gone: list[str] = []
        """Lines that have left the screen at its top."""
        self.most_up = 0
        """The most lines that the cursor was moved up without a line end in between."""
        self.widest = 0
        """The most columns that a line has had."""
        self._columns = columns
        self._row, self._column = at_row, 0
        self._up = 0

    def feed(self, text: str) -> None:
        """Take what a program has written; sequences must be whole."""
        at = 0
        while at < len(text):
            if found := _CONTROL.match(text, at):
                self._control(found[1] or "", found[2] or "m")
                at = found.end()
            else:
                self._put(text[at])
                at += 1

    def lines(self) -> list[str]:
        """Return all that a person can see or scroll back to, without the empty rest."""
        found = [line.rstrip() for line in (*self.gone, *self.screen)]
        while found and not found[-1]:
            found.pop()
        return found

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._column, self._up = 0, 0  # the kernel's terminal adds the carriage return
            self._next_row()
        else:
            assert character.isprintable(), f"unknown control character {character!r}"
            width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
            if self._column + width > self._columns:
                self._column = 0
                self._next_row()
            line = self.screen[self._row].ljust(self._column)
            # A wide character is followed by NUL, which stands for its second column.
            cell = character + "\0" * (width - 1)
            self.screen[self._row] = line[: self._column] + cell + line[self._column + width :]
            self._column += width
            self.widest = max(self.widest, self._column)

    def _next_row(self) -> None:
        if self._row < len(self.screen) - 1:
            self._row += 1
        else:
            self.gone.append(self.screen.pop(0))
            self.screen.append("")

    def _control(self, parameters: str, final: str) -> None:
        if final == "K":
            assert parameters == "2", f"unknown erasure {parameters}"
            self.screen[self._row] = ""
        elif final == "A":
            self._row = max(0, self._row - int(parameters or 1))
            self._up += int(parameters or 1)
            self.most_up = max(self.most_up, self._up)
        else:
            assert final == "m" or parameters == "?25", f"unknown sequence {parameters}{final}"
