"""The command's course: find the files, provide a platform, transcribe the batch."""

import threading
from pathlib import Path

from cli.errors import CommandError
from cli.messages import error, note
from cli.progress.lines import Progress, progress_on_stderr
from cli.server import connect
from cli.signals import StopFlag
from cli.transcribe.batch import Batch
from cli.transcribe.file_jobs import FileJobs
from cli.transcribe.platform import platform_for
from cli.transcribe.request import Request
from cli.transcribe.sources import Found, find_sources
from cli.transcribe.streams import spooled_stdin
from cli.transcribe.transcript_files import TranscriptFiles, make_output_folder

MAX_TOLD = 5
"""The most files left out of a folder that are named."""


def transcribe(request: Request, server: str | None, data: Path) -> int:
    """Transcribe what was asked for; return the exit code, 0 when every file has its transcript.

    ``server`` and ``data`` are those of ``platform_for``.

    Raises:
        CommandError: nothing could be submitted.
        Stopped: a signal came; everything started has been stopped.
    """
    flag = StopFlag()
    with (
        flag.installed(),
        progress_on_stderr() as progress,
        spooled_stdin(request.files, flag) as stdin,
    ):
        found = find_sources(request.files, stdin)
        _tell(found, progress)
        if not found.sources:
            return 1
        if request.reference is not None and len(found.sources) > 1:
            raise CommandError("--reference goes with one file: each file needs its own text")
        sources, outputs = found.sources, None
        if request.output is not None:
            make_output_folder(request.output)
            outputs = TranscriptFiles(request.output, request.formats, sources)
            _refuse_those_without_place(found, outputs, progress)
            if not sources:
                return 1
            if request.skip_existing:
                sources = [source for source in sources if not outputs.has(source)]
        skipped = len(found.sources) - len(sources)
        if not sources:
            progress.say(note(f"nothing to do: {skipped} skipped, their transcripts are there"))
            return 1 if found.refused else 0
        with platform_for(
            request.options,
            server,
            data,
            size_bytes=sum(source.size_bytes for source in sources),
            flag=flag,
            progress=progress,
        ) as platform:
            stop = threading.Event()
            client = connect(platform.url, stop)
            jobs = FileJobs(request, platform, progress, stop, client)
            with Batch(jobs, skipped=skipped, refused=len(found.refused)) as batch:
                batch.add(sources, outputs)
                platform.run(batch.look)
                succeeded = batch.summarize()
        return 0 if succeeded and not found.refused else 1


def _refuse_those_without_place(found: Found, outputs: TranscriptFiles, progress: Progress) -> None:
    """Move the files whose transcripts could not be written to those that are refused."""
    for source in tuple(found.sources):
        try:
            outputs.check(source)
        except CommandError as problem:
            found.sources.remove(source)
            found.refused.append(f"{source.name}: {problem}")
            progress.say(error(found.refused[-1]))


def _tell(found: Found, progress: Progress) -> None:
    """Tell what was found in folders, and which names cannot be transcribed."""
    for folder in found.folders:
        if n_files := folder.n_files:
            files = "1 audio or video file" if n_files == 1 else f"{n_files} audio and video files"
            progress.say(note(f"found {files} in {folder.path}"))
        n_left = len(folder.left_out)
        if folder.n_files and n_left:
            shown = ", ".join(str(each) for each in folder.left_out[:MAX_TOLD])
            more = f" and {n_left - MAX_TOLD} more" if n_left > MAX_TOLD else ""
            progress.say(note(f"left out, not by name audio or video: {shown}{more}"))
    for sentence in found.refused:
        progress.say(error(sentence))
