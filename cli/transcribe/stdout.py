"""Transcripts on standard output."""

import json
import os
import sys

from cli.errors import CommandError, os_reason
from cli.messages import one_line
from cli.transcribe.work import Work


def as_printed(work: Work, form: str, *, several: bool) -> str:
    """Return a file's transcript as it is printed; one of ``several`` names its file.

    JSON gets a member ``file`` and becomes one line, other formats get a heading.
    """
    text = work.text
    if several and form == "json":
        # A file name may hold bytes that are not UTF-8.
        name = os.fsencode(work.source.name).decode("utf-8", "replace")
        return json.dumps({"file": name, **json.loads(text)}, ensure_ascii=False) + "\n"
    if not text.endswith("\n"):
        text += "\n"
    return one_line(f"==> {work.source.name} <==") + "\n" + text if several else text


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
        raise CommandError(f"cannot write to standard output: {os_reason(error)}") from error
