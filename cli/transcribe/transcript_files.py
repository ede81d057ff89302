"""The files that transcripts are written to: how they are named, and that each is whole.

FILE's transcript is FOLDER/STEM.FORMAT; a file found in a folder keeps its path in there. If two
files would share that name, both keep their extensions (talk.flac.srt, talk.wav.srt). If they still
would, both go below the folders that tell them apart (a/talk.wav.srt, b/talk.wav.srt).
"""

import os
import threading
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from cli.errors import CommandError, os_reason
from cli.transcribe.sources import Source

PARTIAL = ".partial"
"""Ends the name of a transcript that was not finished."""
_CLOSING_S = 2.0
"""How long the process waits at its end for a file that is being written."""


class TranscriptFiles:
    """Transcripts below one folder; safe to use from several threads."""

    def __init__(self, folder: Path, formats: Sequence[str], sources: Sequence[Source]) -> None:
        self._folder = folder
        self._formats = formats
        self._places = _places(folder, formats, sources)
        self._inputs = _inputs(sources)
        self._writing = threading.Lock()

    def path(self, source: Source, form: str) -> Path:
        """Return where a source's transcript belongs in one format."""
        return _in_format(self._folder / self._places[source], form)

    def has(self, source: Source) -> bool:
        """Whether a source's transcript is there in every format."""
        return all(self.path(source, form).is_file() for form in self._formats)

    def write(self, source: Source, form: str, text: str) -> None:
        """Write a whole transcript, in place of an older or partial one.

        Raises:
            CommandError: it cannot be written; nothing of it is left.
        """
        path = self.path(source, form)
        self._write(path, text)
        with suppress(OSError):
            path.with_name(path.name + PARTIAL).unlink(missing_ok=True)

    def write_partial(self, source: Source, form: str, text: str) -> Path:
        """Write what there is of a transcript beside the place of the whole; return where.

        Raises:
            CommandError: it cannot be written.
        """
        path = self.path(source, form)
        path = path.with_name(path.name + PARTIAL)
        self._write(path, text)
        return path

    def close(self) -> None:
        """Wait for the file that is being written, as the process ends; write no other."""
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
                        os.fsync(file.fileno())  # a full disk may be told only now
                    draft.replace(path)
                except BaseException:
                    with suppress(OSError):
                        draft.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise CommandError(f"cannot write {path}: {os_reason(error)}") from error


def make_output_folder(folder: Path) -> None:
    """Make the folder for transcripts, and see that files can be written into it.

    Raises:
        CommandError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".longhand-{uuid4().hex}.tmp"
        probe.touch(exist_ok=False)  # os.access is wrong about some file systems
        probe.unlink()
    except OSError as error:
        why = "not a directory" if isinstance(error, FileExistsError) else os_reason(error)
        raise CommandError(f"cannot write transcripts into {folder}: {why}") from error


def _in_format(place: Path, form: str) -> Path:
    return place.with_name(f"{place.name}.{form}")


def _places(folder: Path, formats: Sequence[str], sources: Sequence[Source]) -> dict[Source, Path]:
    """Choose every source's place, without the format, by the rule at the top of this file."""
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
    """Return a key that is equal for names which a file system may take for the same one."""
    return unicodedata.normalize("NFC", str(path)).casefold()
