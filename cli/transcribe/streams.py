"""Standard input as a file to transcribe, and transcripts on standard output."""

import json
import os
import select
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cli.errors import CommandError, os_reason
from cli.messages import one_line
from cli.signals import StopFlag

STDIN = Path("-")
"""Stands for standard input among the names of files."""
_PIECE_BYTES = 1 << 20


@contextmanager
def spooled_stdin(names: Sequence[Path | str], flag: StopFlag) -> Iterator[Path | None]:
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


def as_printed(text: str, name: str, form: str) -> str:
    """Return one of several transcripts as it is printed, with the name of its file.

    JSON gets a member ``file`` and becomes one line, other formats get a heading.
    """
    if form == "json":
        # A file name may hold bytes that are not UTF-8.
        name = os.fsencode(name).decode("utf-8", "replace")
        return json.dumps({"file": name, **json.loads(text)}, ensure_ascii=False)
    return one_line(f"==> {name} <==") + "\n" + (text or "\n")


def print_text(text: str) -> None:
    """Print a transcript, which gets a newline at its end if it has none.

    Raises:
        BrokenPipeError: nobody reads it any more.
        CommandError: it cannot be written.
    """
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"cannot write to standard output: {os_reason(error)}") from error
