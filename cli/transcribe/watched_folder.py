"""``transcribe --watch-folder``: files are transcribed as they come into a folder."""

import threading
import time
from pathlib import Path
from typing import NoReturn

from cli.errors import CommandError
from cli.messages import note
from cli.progress.lines import progress_on_stderr
from cli.server import connect
from cli.signals import StopFlag
from cli.transcribe.batch import Batch
from cli.transcribe.file_jobs import FileJobs
from cli.transcribe.platform import platform_for
from cli.transcribe.request import Request
from cli.transcribe.sources import Source, find_sources, is_folder
from cli.transcribe.transcript_files import TranscriptFiles, make_output_folder

LOOK_S = 2.0
"""How often the folder is looked into. A file that has not changed since the last look is whole."""

Stamp = tuple[int, int]
"""Size in bytes and time of the last change, by which a file's content is known."""


class Arrivals:
    """The audio and video files that come into a folder, each of them once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: dict[Path, Stamp] = {}
        """The files of the last look."""
        self._taken: dict[Path, Stamp] = {}

    def look(self) -> tuple[list[Source], list[Source]]:
        """Return all files that are there, and of these the ones to transcribe now.

        The latter have not changed since the last look, and were not returned before as they are.

        Raises:
            CommandError: the folder is gone.
        """
        if not is_folder(self._folder):
            raise CommandError(f"{self._folder}: the watched folder is gone")
        sources = find_sources([self._folder]).sources
        now: dict[Path, Stamp] = {}
        due = []
        for source in sources:
            try:
                status = source.path.stat()
            except OSError:  # it is gone again
                continue
            stamp = now[source.path] = (status.st_size, status.st_mtime_ns)
            if self._last.get(source.path) == stamp != self._taken.get(source.path):
                due.append(source)
        self._last = now
        return sources, due

    def take(self, source: Source) -> bool:
        """Note that a file is dealt with as it is; return whether an older state of it was."""
        was_there = source.path in self._taken
        self._taken[source.path] = self._last[source.path]
        return was_there


def transcribe_arrivals(request: Request, folder: Path, server: str | None, data: Path) -> NoReturn:
    """Transcribe what is in a folder and what comes into it, until a signal comes.

    Files whose transcripts are there already are left out, as long as they do not change.

    Raises:
        CommandError: the transcripts cannot be written, the folder is gone, or there is no
            platform.
        Stopped: a signal came; everything started has been stopped.
    """
    assert request.output is not None
    make_output_folder(request.output)
    flag = StopFlag()
    with (
        flag.installed(),
        progress_on_stderr() as progress,
        platform_for(
            request.options, server, data, size_bytes=0, flag=flag, progress=progress
        ) as platform,
    ):
        progress.say(note(f"watching {folder} until Ctrl-C"))
        stop = threading.Event()
        client = connect(platform.url, stop)
        with Batch(FileJobs(request, platform, progress, stop, client)) as batch:
            watch = Watch(Arrivals(folder), request, batch)
            platform.run(watch.look)
    raise AssertionError("only an exception ends a watch")


class Watch:
    """Hands what comes into a folder to a batch, whatever else is still under way in it."""

    def __init__(self, arrivals: Arrivals, request: Request, batch: Batch) -> None:
        assert request.output is not None
        self._arrivals = arrivals
        self._folder = request.output
        self._formats = request.formats
        self._batch = batch
        self._looked_at_s = -LOOK_S
        self._is_idle = True

    def look(self) -> bool:
        """Look into the folder when it is time, and at the batch; never true, as it goes on.

        Raises:
            CommandError: the folder is gone.
        """
        now_s = time.monotonic()
        if now_s - self._looked_at_s >= LOOK_S:
            self._looked_at_s = now_s
            self._add_new()
        if not self._is_idle and self._batch.look():
            self._batch.summarize()
            self._is_idle = True
        return False

    def _add_new(self) -> None:
        there, due = self._arrivals.look()
        if due:
            outputs = TranscriptFiles(self._folder, self._formats, there)
            new = [s for s in due if self._arrivals.take(s) or not outputs.has(s)]
            self._batch.add(new, outputs)
            self._is_idle = self._is_idle and not new
