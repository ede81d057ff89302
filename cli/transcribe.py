"""``longhand transcribe``: files in, transcripts out, through a platform that may be our own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.batch import Batch, Request, Target
from cli.embedded.directory import DataDirectory
from cli.embedded.signals import StopFlag
from cli.embedded.stack import Plan, running_stack
from cli.errors import CommandError, printable
from cli.files import Found, find_sources, spooled_stdin
from cli.models import prepare_model
from cli.outputs import Outputs, make_output_folder
from cli.progress import Progress, progress_on_stderr

DRAIN_S = 1.0
"""The jobs have ended or were given up: what a worker still holds then can be lost to a kill."""


def transcribe(request: Request, server: str | None, data: Path) -> int:
    """Do it; return the exit code: 0 when every file has its transcript.

    Raises:
        CommandError: nothing could be submitted at all.
        Stopped: a signal came; everything started has been stopped.
    """
    flag = StopFlag()
    with (
        flag.installed(),
        progress_on_stderr() as progress,
        spooled_stdin(request.files, flag) as stdin,
    ):
        found = find_sources(request.files, stdin)
        say_found(found, progress)
        if not found.sources:
            return 1
        if request.reference is not None and len(found.sources) > 1:
            raise CommandError("--reference goes with one file: with its own text each would need")
        sources, outputs = found.sources, None
        if request.output is not None:
            make_output_folder(request.output)
            outputs = Outputs(request.output, request.formats, sources)
            if request.skip_existing:
                sources = [source for source in sources if not outputs.has(source)]
        skipped = len(found.sources) - len(sources)
        if not sources:
            progress.say(f"longhand: nothing to do: {skipped} skipped, their transcripts are there")
            return 1 if found.refused else 0
        size_bytes = sum(source.size_bytes for source in sources)
        with _platform(request, server, data, size_bytes, flag, progress) as target:
            batch = Batch(request, sources, outputs, target, progress)
            succeeded = batch.run(skipped=skipped, refused=len(found.refused))
        return 0 if succeeded and not found.refused else 1


def say_found(found: Found, progress: Progress) -> None:
    """Tell what was found in folders, and what nothing can be made of."""
    for folder, n_files in found.folders:
        if n_files:
            files = "1 audio or video file" if n_files == 1 else f"{n_files} audio and video files"
            progress.say(printable(f"longhand: found {files} in {folder}"))
    for line in found.refused:
        progress.say(printable(f"longhand: error: {line}"))


@contextmanager
def _platform(
    request: Request,
    server: str | None,
    data: Path,
    size_bytes: int,
    flag: StopFlag,
    progress: Progress,
) -> Iterator[Target]:
    """Provide the platform named, the one that runs in the data directory, or one of our own."""
    if server is not None:
        yield Target(server, request.options.model, _waiting(flag))
        return
    directory = DataDirectory(data)
    directory.create(for_files_bytes=size_bytes)
    waiting = False
    while (owner := directory.owner()) is not None:
        if owner.purpose == "up":
            progress.say(f"longhand: using the platform that runs at {owner.api_url}")
            model_id = request.options.model
            yield Target(owner.api_url, model_id, _waiting(flag), logs=directory.logs)
            return
        if not waiting:
            progress.say(f"longhand: waiting for another longhand in {data} to finish")
            waiting = True
        flag.check()
        flag.sleep(0.2)
    model = prepare_model(request.options, flag, progress)
    progress.say("longhand: starting the platform")
    plan = Plan(models=(model.id,), purpose="transcribe", drain_s=DRAIN_S)
    say = _prefixed(progress)
    with running_stack(directory, plan, flag, say) as stack:
        yield Target(stack.api_url, model.id, stack.run, lasting=False, logs=directory.logs)


def _waiting(flag: StopFlag) -> Callable[[Callable[[], bool]], None]:
    def run(until: Callable[[], bool]) -> None:
        while not until():
            flag.check()
            flag.sleep(0.1)

    return run


def _prefixed(progress: Progress) -> Callable[[str], None]:
    return lambda line: progress.say(f"longhand: {line}")
