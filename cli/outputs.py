"""Where transcripts are written: which name each has, and that none is ever there by half.

FILE's transcript is FOLDER/STEM.FORMAT, below the folders in which FILE was found. Where two files
would share that name, both keep their extensions (talk.flac.srt, talk.wav.srt); where they share
those too, both are put below the folders that tell them apart (a/talk.wav.srt, b/talk.wav.srt).
"""

import os
import threading
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from cli.errors import CommandError
from cli.files import Source

PARTIAL = ".partial"
"""Ends the name of what is known of a transcript that was not finished."""
_CLOSING_S = 2.0


class Outputs:
    """The transcripts of some sources below one folder; safe to use from several threads."""

    def __init__(self, folder: Path, formats: Sequence[str], sources: Sequence[Source]) -> None:
        self.folder = folder
        self.formats = tuple(formats)
        self._places = _places(folder, self.formats, sources)
        self._inputs = _inputs(sources)
        self._writing = threading.Lock()

    def path(self, source: Source, form: str) -> Path:
        """Return where a source's transcript belongs in one format."""
        return _in_format(self.folder / self._places[source], form)

    def has(self, source: Source) -> bool:
        """Whether a source's transcript is there in every format."""
        return all(self.path(source, form).is_file() for form in self.formats)

    def write(self, source: Source, form: str, text: str) -> None:
        """Put a whole transcript in its place; what was there before is replaced.

        Raises:
            CommandError: it cannot be written; nothing of it is left.
        """
        path = self.path(source, form)
        self._write(path, text)
        with suppress(OSError):
            path.with_name(path.name + PARTIAL).unlink(missing_ok=True)

    def write_partial(self, source: Source, form: str, text: str) -> Path:
        """Put what there is of a transcript beside the place of the whole; return where.

        Raises:
            CommandError: it cannot be written.
        """
        path = self.path(source, form)
        path = path.with_name(path.name + PARTIAL)
        self._write(path, text)
        return path

    def close(self) -> None:
        """Let who is writing finish, and nobody write from now on: the process is about to end."""
        self._writing.acquire(timeout=_CLOSING_S)

    def _write(self, path: Path, text: str) -> None:
        if _real(path) in self._inputs:
            raise CommandError(f"cannot write {path}: it is one of the files to transcribe")
        draft = path.with_name(f".longhand-{uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._writing:
                try:
                    with draft.open("x", encoding="utf-8", newline="") as file:
                        file.write(text)
                        file.flush()
                        os.fsync(file.fileno())  # a disk may find out only now that it is full
                    draft.replace(path)
                except BaseException:
                    with suppress(OSError):
                        draft.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise CommandError(f"cannot write {path}: {error.strerror}") from error


def make_output_folder(folder: Path) -> None:
    """Make the folder for transcripts before they are made: none is to be lost for want of it.

    Raises:
        CommandError: it cannot be made, or not be written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".longhand-{uuid4().hex}.tmp"
        probe.touch(exist_ok=False)  # what os.access says is not true of every file system
        probe.unlink()
    except OSError as error:
        reason = "not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise CommandError(f"cannot write transcripts into {folder}: {reason}") from error


def _in_format(place: Path, form: str) -> Path:
    return place.with_name(f"{place.name}.{form}")


def _places(folder: Path, formats: Sequence[str], sources: Sequence[Source]) -> dict[Source, Path]:
    """Choose every source's place, without the format: see the head of this file."""
    common = Path(os.path.commonpath([source.origin.parent for source in sources]))
    choices = {
        source: (
            source.place.with_name(source.place.stem),
            source.place,
            source.origin.relative_to(common),
        )
        for source in sources
    }
    inputs = _inputs(sources)
    level = dict.fromkeys(sources, 0)
    while True:
        places = {source: choices[source][level[source]] for source in sources}
        count = Counter(_key(place) for place in places.values())
        clashing = [
            source
            for source, place in places.items()
            if level[source] + 1 < len(choices[source])
            and (
                count[_key(place)] > 1
                or any(_real(_in_format(folder / place, form)) in inputs for form in formats)
            )
        ]
        if not clashing:
            return places
        for source in clashing:
            level[source] += 1


def _inputs(sources: Sequence[Source]) -> frozenset[str]:
    return frozenset(_real(source.path) for source in sources)


def _real(path: Path) -> str:
    return _key(Path(os.path.realpath(path)))


def _key(path: Path) -> str:
    """Return what is equal for names that some file system takes for the same."""
    return unicodedata.normalize("NFC", str(path)).casefold()
