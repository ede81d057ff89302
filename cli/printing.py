"""Transcripts on standard output."""

import json
import os
import sys

from cli.errors import CommandError, printable
from cli.tally import Work


def as_printed(work: Work, form: str, *, several: bool) -> str:
    """Return a file's transcript as it is printed: of several, each names its file."""
    text = work.texts[form]
    if several and form == "json":
        # Names may hold stray bytes, which no encoding has.
        name = os.fsencode(work.source.name).decode("utf-8", "replace")
        return json.dumps({"file": name, **json.loads(text)}, ensure_ascii=False) + "\n"
    if not text.endswith("\n"):
        text += "\n"
    return printable(f"==> {work.source.name} <==") + "\n" + text if several else text


def print_text(text: str) -> None:
    """Print a transcript.

    Raises:
        BrokenPipeError: nobody reads it any more.
        CommandError: it cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"cannot write to standard output: {error.strerror}") from error
