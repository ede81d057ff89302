"""Which files to transcribe: those named, those in folders named, and those at URLs."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

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
"""How a URL begins once it has become a path, which reduces its two slashes to one."""
_FETCHED = re.compile(r"^https?://", re.IGNORECASE)

Name = Path | str
"""What a person names: a file, a folder or '-'; as text a URL that the platform is to fetch."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file to be transcribed."""

    path: Path
    """What is read; of a URL no more than its file's name."""
    origin: Path
    """Its absolute path, links not resolved; for standard input a file 'stdin' in the current
    folder, for a URL a file below its host's name there."""
    name: str
    """Its name in messages."""
    place: Path
    """Its path below the folder that was named; its bare name if it was named itself."""
    size_bytes: int
    """0: unknown, as of a URL."""
    url: str | None = None
    """Where the platform fetches it; None: it is uploaded."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that was named."""

    path: Path
    n_files: int
    """Audio and video files found in it."""
    left_out: list[Path]
    """Other files in it, but for hidden ones; below ``path``."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found under the names given."""

    sources: list[Source]
    refused: list[str]
    """A sentence for each name that cannot be uploaded."""
    folders: list[Folder]


def is_url(name: str) -> bool:
    """Whether a name is that of a file that the platform can fetch."""
    return _FETCHED.match(name) is not None


def find_sources(names: Sequence[Name], stdin: Path | None = None) -> Found:
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

    urls: set[str] = set()
    for named in names:
        if isinstance(named, str):
            if named not in urls:
                urls.add(named)
                found.sources.append(_source_at(named))
        elif named == STDIN and stdin is not None:
            add(stdin, "standard input", Path("stdin"), Path("stdin"))
        elif is_folder(named):
            n_refused = len(found.refused)
            left_out: list[Path] = []
            paths = list(_media_in(named, found.refused, left_out))
            found.folders.append(Folder(named, len(paths), left_out))
            if not paths and len(found.refused) == n_refused:
                found.refused.append(f"{named}: has no audio or video files in it")
            for path in paths:
                add(path, str(path), path.relative_to(named), path)
        else:
            name = _URL.sub(r"\g<0>/", str(named), count=1)
            add(named, name, Path(named.name), named)
    return found


def _source_at(url: str) -> Source:
    """Return the file at a URL, named in messages without credentials and query."""
    parts = urlsplit(url)
    host = parts.hostname or "url"
    # A name that is written in a URL may have any character in it.
    steps = [unquote(each).replace("/", "_") for each in parts.path.split("/")]
    steps = [each for each in steps if each not in ("", ".", "..")] or [host]
    last = steps[-1] + (quote(f"?{parts.query}", safe="") if parts.query else "")
    port = f":{parts.port}" if parts.port else ""
    return Source(
        path=Path(steps[-1]),
        origin=Path(host, *steps[:-1], last).absolute(),
        name=f"{parts.scheme}://{host}{port}{parts.path}",
        place=Path(steps[-1]),
        size_bytes=0,
        url=url,
    )


def is_folder(path: Name) -> bool:
    """Whether a name is a folder's; False if that cannot be told."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where a name is too long


def _media_in(folder: Path, refused: list[str], left_out: list[Path]) -> Iterator[Path]:
    """Yield the audio and video files below a folder in the order of their names.

    Other files are added to ``left_out``. Hidden files and folders count as neither. Links are
    followed, but no folder is entered twice.
    """

    def unreadable(error: OSError) -> None:
        refused.append(f"{error.filename}: cannot be read: {os_reason(error)}")

    entered: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        try:
            status = Path(parent).stat()
        except OSError as error:  # it was removed in this moment
            unreadable(error)
            continue
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                continue
            path = Path(parent, name)
            if path.suffix[1:].lower() in _MEDIA:
                yield path
            else:
                left_out.append(path.relative_to(folder))


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
            problem = "only http and https URLs are fetched: download the file, then name it"
            raise CommandError(problem) from error
        raise CommandError("no such file") from error
    except OSError as error:
        raise CommandError(f"cannot be read: {os_reason(error)}") from error
    if not status.st_size:
        raise CommandError("the file is empty")
    return status.st_size
