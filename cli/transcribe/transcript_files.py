"""The files that transcripts are written to: how they are named, and that each is whole.

FILE's transcript is FOLDER/STEM.FORMAT; a file found in a folder keeps its path in there. If two
files would share that name, both keep their extensions (talk.flac.srt, talk.wav.srt). If they still
would, both go below the folders that tell them apart (a/talk.wav.srt, b/talk.wav.srt).
"""

import errno
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

PARTIAL = "partial"
"""The last extension of a transcript that was not finished."""
_CLOSING_S = 2.0
"""How long the process waits at its end for a file that is being written."""


class TranscriptFiles:
    """Transcripts below one folder; safe to use from several threads."""

    def __init__(self, folder: Path, formats: Sequence[str], sources: Sequence[Source]) -> None:
        self._folder = folder
        self._formats = formats
        self._inputs = frozenset(_real(source.path) for source in sources if source.url is None)
        self._places = self._choose_places(sources)
        self._writing = threading.Lock()

    def path(self, source: Source, form: str) -> Path:
        """Return where a source's transcript belongs in one format."""
        return _in_format(self._folder / self._places[source], form)

    def has(self, source: Source) -> bool:
        """Whether a source's transcript is there in every format."""
        return all(self.path(source, form).is_file() for form in self._formats)

    def check(self, source: Source) -> None:
        """See whether a transcript's name is one that the file system can have.

        Raises:
            CommandError: it is too long.
        """
        for form in self._formats:
            path = self.path(source, form)
            for name in (path, self._folder / path.name):  # folders in between may not exist yet
                try:
                    name.lstat()
                except OSError as error:
                    if error.errno == errno.ENAMETOOLONG:
                        raise CommandError(f"cannot write {path}: {os_reason(error)}") from error

    def write(self, source: Source, form: str, transcript: bytes) -> None:
        """Write a whole transcript, in place of an older or partial one.

        Raises:
            CommandError: it cannot be written; nothing of it is left.
        """
        path = self.path(source, form)
        self._write(path, transcript)
        with suppress(OSError):
            _in_format(path, PARTIAL).unlink(missing_ok=True)

    def write_partial(self, source: Source, form: str, transcript: bytes) -> Path:
        """Write what there is of a transcript beside the place of the whole; return where.

        Raises:
            CommandError: it cannot be written.
        """
        path = _in_format(self.path(source, form), PARTIAL)
        self._write(path, transcript)
        return path

    def close(self) -> None:
        """Wait for the file that is being written, as the process ends; write no other."""
        self._writing.acquire(timeout=_CLOSING_S)

    def _choose_places(self, sources: Sequence[Source]) -> dict[Source, Path]:
        """Choose every source's place, without the format, by the rule at the top of this file."""
        common = Path(os.path.commonpath([source.origin.parent for source in sources]))
        choices = {  # the best one last
            s: [s.origin.relative_to(common), s.place, s.place.with_name(s.place.stem)]
            for s in sources
        }
        while True:
            places = {source: left[-1] for source, left in choices.items()}
            count = Counter(map(_key, places.values()))
            clashing = [
                source
                for source, place in places.items()
                if len(choices[source]) > 1 and (count[_key(place)] > 1 or self._hits_input(place))
            ]
            if not clashing:
                return places
            for source in clashing:
                choices[source].pop()

    def _hits_input(self, place: Path) -> bool:
        paths = (_in_format(self._folder / place, form) for form in self._formats)
        return any(_real(path) in self._inputs for path in paths)

    def _write(self, path: Path, transcript: bytes) -> None:
        if _real(path) in self._inputs:
            raise CommandError(f"cannot write {path}: it is one of the files to transcribe")
        draft = path.with_name(f".longhand-{uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._writing:
                try:
                    with draft.open("xb") as file:
                        file.write(transcript)
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


def _real(path: Path) -> str:
    return _key(Path(os.path.realpath(path)))


def _key(path: Path) -> str:
    """Return a key that is equal for names which a file system may take for the same one."""
    return unicodedata.normalize("NFC", str(path)).casefold()
