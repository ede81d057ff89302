"""Standard input as a file to transcribe."""

import os
import select
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cli.errors import CommandError
from cli.signals import StopFlag

STDIN = Path("-")
"""Stands for standard input among the names of files."""
_PIECE_BYTES = 1 << 20


@contextmanager
def spooled_stdin(names: Sequence[Path], flag: StopFlag) -> Iterator[Path | None]:
    """Yield a temporary file with all of standard input if '-' is among the names, else None.

    Raises:
        CommandError: there is nothing to read from.
        OSError: it cannot be read, or the disk is full.
        Stopped: a signal came meanwhile.
    """
    if STDIN not in names:
        yield None
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise CommandError("standard input: is a terminal; send a file into it: ... - < talk.mp3")
    with tempfile.TemporaryDirectory(prefix="longhand-") as folder:
        path = Path(folder, "stdin")
        with path.open("wb") as file:
            descriptor = sys.stdin.fileno()
            while True:
                # A blocking read goes on after a signal, whose handler only raises a flag.
                while not select.select([descriptor], [], [], 0.1)[0]:
                    flag.check()
                flag.check()
                if not (piece := os.read(descriptor, _PIECE_BYTES)):
                    break
                file.write(piece)
        yield path
