"""Which files to transcribe: those named, and those in folders named, if they can be uploaded."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.errors import CommandError, os_reason
from cli.transcribe.streams import STDIN

_MEDIA = frozenset(
    {"aac", "ac3", "aif", "aifc", "aiff", "alac", "amr", "ape", "au", "caf", "dts", "eac3"}
    | {"flac", "gsm", "m4a", "m4b", "mka", "mp2", "mp3", "mpga", "oga", "ogg", "opus", "ra", "snd"}
    | {"spx", "tta", "voc", "w64", "wav", "weba", "wma", "wv", "3g2", "3gp", "asf", "avi", "f4v"}
    | {"flv", "m2ts", "m4v", "mj2", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "ogv", "ts"}
    | {"vob", "webm", "wmv"}
)
"""Extensions of the files that are taken from a folder. What cannot be decoded fails later."""
_URL = re.compile(r"^[a-z][a-z0-9+.-]+:/(?!/)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """One file to be transcribed."""

    path: Path
    """What is read."""
    origin: Path
    """Its absolute path, links not resolved; for standard input a file 'stdin' in the current
    folder."""
    name: str
    """Its name in messages."""
    place: Path
    """Its path below the folder that was named; its bare name if it was named itself."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """What was found under the names given."""

    sources: list[Source]
    refused: list[str]
    """A sentence for each name that cannot be uploaded."""
    folders: list[tuple[Path, int]]
    """The folders named, each with the number of files found in it."""


def find_sources(names: Sequence[Path], stdin: Path | None = None) -> Found:
    """Sort names into files to submit, each of them once, and sentences about the others.

    ``stdin`` is a file with standard input, if '-' is among the names.
    """
    found = Found([], [], [])
    seen: set[Path] = set()

    def add(path: Path, name: str, place: Path, origin: Path) -> None:
        origin = origin.absolute()
        if origin in seen:
            return
        seen.add(origin)
        try:
            found.sources.append(Source(path, origin, name, place, _size_bytes(path)))
        except CommandError as error:
            found.refused.append(f"{name}: {error}")

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
            # pathlib reduces the two slashes of a URL to one.
            name = _URL.sub(r"\g<0>/", str(named), count=1)
            add(named, name, Path(named.name), named)
    return found


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; False if that cannot be told."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where a name is too long


def _media_in(folder: Path, refused: list[str]) -> Iterator[Path]:
    """Yield the audio and video files below a folder in the order of their names.

    Hidden files and folders are left out. Links are followed, but no folder is entered twice.
    """

    def unreadable(error: OSError) -> None:
        refused.append(f"{error.filename}: cannot be read: {os_reason(error)}")

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
            if not name.startswith(".") and extension in _MEDIA:
                yield Path(parent, name)


def _size_bytes(path: Path) -> int:
    """Return the size of a file that can be uploaded.

    Raises:
        CommandError: it cannot be.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise CommandError("is not a regular file")  # opening a pipe could wait for ever
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        if _URL.match(str(path)):
            problem = "URLs are not fetched: download the file first, then name it"
            raise CommandError(problem) from error
        raise CommandError("no such file") from error
    except OSError as error:
        raise CommandError(f"cannot be read: {os_reason(error)}") from error
    if not status.st_size:
        raise CommandError("the file is empty")
    return status.st_size
