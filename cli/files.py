"""The files a person names: which of them can be uploaded, and where their transcripts go."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from cli.errors import CommandError


def check_files(files: Sequence[Path], output: Path | None) -> tuple[list[Path], list[str]]:
    """Sort the files into those to submit and one line for each of the others."""
    sources: list[Path] = []
    refused: list[str] = []
    outputs: dict[str, Path] = {}
    for path in files:
        if problem := _problem(path):
            refused.append(f"{path}: {problem}")
        elif output is not None and path.stem in outputs:
            refused.append(f"{path}: would overwrite the transcript of {outputs[path.stem]}")
        else:
            outputs[path.stem] = path
            sources.append(path)
    return sources, refused


def _problem(path: Path) -> str:
    """Say why a path cannot be uploaded; nothing if it can."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return "is a directory, not an audio file"
        if not stat.S_ISREG(status.st_mode):
            return "is not a regular file"  # opening a pipe could wait for ever
        with path.open("rb"):
            return "" if status.st_size else "the file is empty"
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def make_output_folder(folder: Path) -> None:
    """Make the folder for transcripts before they are made: none is to be lost for want of it.

    Raises:
        CommandError: it cannot be made, or not be written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise CommandError(f"cannot write transcripts into {folder}: {reason}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"cannot write transcripts into {folder}: permission denied")
