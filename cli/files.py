"""The files a person names: which of them, and of the folders named, can be uploaded."""

import os
import re
import select
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.embedded.signals import StopFlag
from cli.errors import CommandError

STDIN = Path("-")
"""Stands for standard input."""
AUDIO = frozenset(
    {"aac", "ac3", "aif", "aifc", "aiff", "alac", "amr", "ape", "au", "caf", "dts", "eac3", "flac"}
    | {"gsm", "m4a", "m4b", "mka", "mp2", "mp3", "mpga", "oga", "ogg", "opus", "ra", "snd", "spx"}
    | {"tta", "voc", "w64", "wav", "weba", "wma", "wv"}
)
VIDEO = frozenset(
    {"3g2", "3gp", "asf", "avi", "f4v", "flv", "m2ts", "m4v", "mj2", "mkv", "mov", "mp4", "mpeg"}
    | {"mpg", "mts", "mxf", "ogv", "ts", "vob", "webm", "wmv"}
)
"""Extensions by which a folder's files are taken. What cannot be decoded fails, and is told."""
_URL = re.compile(r"^[a-z][a-z0-9+.-]+:/(?!/)", re.IGNORECASE)
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """One file to be transcribed."""

    path: Path
    """To read it from."""
    origin: Path
    """Absolute, links kept; standard input counts as a file 'stdin' of the current folder."""
    name: str
    """As people are told of it."""
    place: Path
    """Its name; of a file found in a folder that was named, its path in there."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to do."""

    sources: list[Source]
    refused: list[str]
    """One line for each name of which nothing can be made."""
    folders: list[tuple[Path, int]]
    """The folders named, and how many files were found in each."""


def find_sources(names: Sequence[Path], stdin: Path | None = None) -> Found:
    """Sort what was named into files to submit, each of them once, and lines for the others.

    Args:
        names: files, folders, and '-'.
        stdin: the file that holds standard input, where '-' is among the names.
    """
    found = Found([], [], [])
    seen: set[Path] = set()

    def add(path: Path, name: str, place: Path, origin: Path) -> None:
        origin = origin.absolute()
        if origin in seen:
            return
        seen.add(origin)
        if problem := _problem(path):
            found.refused.append(f"{name}: {problem}")
        else:
            found.sources.append(Source(path, origin, name, place, path.stat().st_size))

    for named in names:
        if named == STDIN and stdin is not None:
            add(stdin, "standard input", Path("stdin"), Path("stdin"))
        elif is_folder(named):
            n_refused = len(found.refused)
            paths = list(_media_in(named, found.refused))
            found.folders.append((named, len(paths)))
            if not paths and len(found.refused) == n_refused:
                found.refused.append(f"{named}: has no audio or video files in it")
            for path in paths:
                add(path, str(path), path.relative_to(named), path)
        else:
            # pathlib makes one slash of a URL's two.
            name = _URL.sub(r"\g<0>/", str(named), count=1)
            add(named, name, Path(named.name), named)
    return found


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; not where nobody can tell, as of a name that is too long."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises then


def _media_in(folder: Path, refused: list[str]) -> Iterator[Path]:
    """Yield the audio and video files below a folder in the order of their names.

    Hidden ones are left out. Links are followed, but no folder is entered twice.
    """

    def unreadable(error: OSError) -> None:
        refused.append(f"{error.filename}: cannot be read: {error.strerror}")

    entered: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            extension = Path(name).suffix[1:].lower()
            if not name.startswith(".") and extension in AUDIO | VIDEO:
                yield Path(parent, name)


def _problem(path: Path) -> str:
    """Say why a path cannot be uploaded; nothing if it can."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "is not a regular file"  # opening a pipe could wait for ever
        with path.open("rb"):
            return "" if status.st_size else "the file is empty"
    except FileNotFoundError:
        if _URL.match(str(path)):
            return "URLs are not fetched: download the file first, then name it"
        return "no such file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


@contextmanager
def spooled_stdin(names: Sequence[Path], flag: StopFlag) -> Iterator[Path | None]:
    """Keep standard input in a temporary file while the block runs, if '-' is among the names.

    Raises:
        CommandError: there is nothing to read from.
        OSError: it cannot be read, or the disk is full.
        Stopped: a signal came while it was read.
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
                # A read alone would not be woken by a signal whose handler only raises a flag.
                while not select.select([descriptor], [], [], 0.1)[0]:
                    flag.check()
                flag.check()
                if not (piece := os.read(descriptor, _PIECE_BYTES)):
                    break
                file.write(piece)
        yield path
