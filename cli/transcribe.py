"""``longhand transcribe``: files in, transcripts out, through a platform that may be our own."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.client import Client, JobView
from cli.embedded.directory import DataDirectory
from cli.embedded.signals import StopFlag, Stopped
from cli.embedded.stack import Plan, running_stack
from cli.errors import CommandError
from cli.models import prepare_model
from cli.progress import Progress, progress_on_stderr

CONCURRENT_JOBS = 4
"""Enough to keep a worker's batch full, few enough to upload one after the other's progress."""
FIRST_POLL_S = 0.1
MAX_POLL_S = 1.0
DRAIN_S = 1.0
"""The jobs have ended or were given up: what a worker still holds then can be lost to a kill."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the person asked for."""

    files: tuple[Path, ...]
    model: str | None
    language: str | None
    form: str
    output: Path | None


@dataclass(frozen=True, slots=True)
class _Target:
    """A platform to submit to, and how to wait in the main thread while it works."""

    url: str
    model: str | None
    run: Callable[[Callable[[], bool]], None]


def transcribe(request: Request, server: str | None, data: Path) -> int:
    """Do it; return the exit code: 0 when every file has its transcript.

    Raises:
        CommandError: nothing could be submitted at all.
        Stopped: a signal came; everything started has been stopped.
    """
    flag = StopFlag()
    with flag.installed():
        sources, refused = _check_files(request)
        with progress_on_stderr() as progress:
            for line in refused:
                progress.say(f"longhand: error: {line}")
            if not sources:
                return 1
            if request.output is not None:
                request.output.mkdir(parents=True, exist_ok=True)
            with _platform(request, server, data, flag, progress) as target:
                outcomes = _run_jobs(request, sources, target, progress)
                failed = _report(request, outcomes, progress)
        return 1 if failed or refused else 0


def _check_files(request: Request) -> tuple[list[Path], list[str]]:
    """Sort the files into those to submit and one line for each of the others."""
    sources: list[Path] = []
    refused: list[str] = []
    outputs: dict[str, Path] = {}
    for path in request.files:
        if path.is_dir():
            refused.append(f"{path}: is a directory, not an audio file")
        elif not path.exists():
            refused.append(f"{path}: no such file")
        elif request.output is not None and path.stem in outputs:
            refused.append(f"{path}: would overwrite the transcript of {outputs[path.stem]}")
        else:
            outputs[path.stem] = path
            sources.append(path)
    return sources, refused


@contextmanager
def _platform(
    request: Request, server: str | None, data: Path, flag: StopFlag, progress: Progress
) -> Iterator[_Target]:
    """Provide the platform named, the one that runs in the data directory, or one of our own."""
    if server is not None:
        yield _Target(server, request.model, _waiting(flag))
        return
    directory = DataDirectory(data)
    directory.create()
    waiting = False
    while (owner := directory.owner()) is not None:
        if owner.purpose == "up":
            progress.say(f"longhand: using the platform that runs at {owner.api_url}")
            yield _Target(
                owner.api_url, _served_model(request.model, owner.api_url, flag), _waiting(flag)
            )
            return
        if not waiting:
            progress.say(f"longhand: waiting for another longhand in {data} to finish")
            waiting = True
        flag.check()
        flag.sleep(0.2)
    model = prepare_model(request.model, flag, progress)
    progress.say("longhand: starting the platform")
    plan = Plan(models=(model.id,), purpose="transcribe", drain_s=DRAIN_S)
    say = _prefixed(progress)
    with running_stack(directory, plan, flag, say) as stack:
        yield _Target(stack.api_url, model.id, stack.run)


def _served_model(wanted: str | None, url: str, flag: StopFlag) -> str | None:
    """Check that a local platform has a worker for the model: else its job would wait for ever."""
    if wanted is None:
        return None
    client = Client(url, threading.Event())
    try:
        ready = client.models_ready()
    finally:
        client.close()
    if wanted not in ("auto", *ready) or not ready.get(wanted, True):
        serving = ", ".join(sorted(model for model, up in ready.items() if up)) or "none"
        raise CommandError(f"the platform at {url} does not run '{wanted}'; it runs: {serving}")
    flag.check()
    return wanted


def _waiting(flag: StopFlag) -> Callable[[Callable[[], bool]], None]:
    def run(until: Callable[[], bool]) -> None:
        while not until():
            flag.check()
            flag.sleep(0.1)

    return run


def _prefixed(progress: Progress) -> Callable[[str], None]:
    return lambda line: progress.say(f"longhand: {line}")


def _run_jobs(
    request: Request, sources: Sequence[Path], target: _Target, progress: Progress
) -> list[tuple[Path, Future[str]]]:
    """Submit all files, a few at a time, and wait for their ends in the main thread."""
    stop = threading.Event()
    client = Client(target.url, stop)
    pool = ThreadPoolExecutor(CONCURRENT_JOBS, thread_name_prefix="job")
    outcomes = [
        (
            path,
            pool.submit(_transcribe_file, client, path, request, target.model, progress, stop),
        )
        for path in sources
    ]
    try:
        target.run(lambda: all(future.done() for _, future in outcomes))
    except Stopped:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        client.close()
    return outcomes


def _transcribe_file(
    client: Client,
    path: Path,
    request: Request,
    model: str | None,
    progress: Progress,
    stop: threading.Event,
) -> str:
    """Take one file from upload to transcript, in a thread of its own."""
    name = str(path)
    size_bytes = path.stat().st_size
    began = time.monotonic()
    progress.show(name, "uploading", 0.0)
    job = client.submit(
        path,
        model=model,
        language=request.language,
        on_sent=lambda sent: progress.show(name, "uploading", sent / max(size_bytes, 1)),
    )
    job = _follow(client, job, name, progress, stop)
    if job.state != "succeeded":
        reason = job.error or f"the job was {job.state}"
        progress.show(name, job.state)
        raise CommandError(reason)
    text = client.transcript(job.id, request.form)
    if request.output is not None:
        (request.output / f"{path.stem}.{request.form}").write_text(text, encoding="utf-8")
    took_s = time.monotonic() - began
    audio_s = job.duration_s or 0.0
    progress.show(
        name,
        "done",
        1.0,
        f"{audio_s:.1f} s of audio in {took_s:.1f} s, RTFx {audio_s / took_s:.2g} with upload",
    )
    return text


def _follow(
    client: Client, job: JobView, name: str, progress: Progress, stop: threading.Event
) -> JobView:
    """Show a job's progress until it ends."""
    pause_s = FIRST_POLL_S
    began: float | None = None
    while not job.ended:
        if job.stage not in ("queued", "preparing") and began is None:
            began = time.monotonic()
        _show(progress, name, job, time.monotonic() - began if began else 0.0)
        if stop.wait(pause_s):
            raise CommandError("stopped")
        pause_s = min(MAX_POLL_S, pause_s * 1.3)
        job = client.job(job.id)
    return job


def _show(progress: Progress, name: str, job: JobView, wall_s: float) -> None:
    if job.chunks_total == 0 or job.stage not in ("transcribing", "finishing"):
        progress.show(name, job.stage)
        return
    # The plan grows while a long file is still being decoded.
    more = "" if job.chunks_known else "+"
    rtfx = f"RTFx {job.audio_done_s / wall_s:.2g}" if wall_s and job.audio_done_s else ""
    progress.show(
        name,
        f"chunk {job.chunks_done} of {job.chunks_total}{more}",
        job.chunks_done / job.chunks_total,
        rtfx,
    )


def _report(
    request: Request, outcomes: Sequence[tuple[Path, Future[str]]], progress: Progress
) -> bool:
    """Print what came out, in the order asked for; return whether a file failed."""
    failed = False
    for path, future in outcomes:
        try:
            text = future.result()
        except CommandError as error:
            failed = True
            progress.say(f"longhand: error: {path}: {error}")
            continue
        except OSError as error:
            failed = True
            progress.say(f"longhand: error: {path}: {error.strerror}")
            continue
        if request.output is None:
            if len(request.files) > 1:
                sys.stdout.write(f"==> {path} <==\n")
            sys.stdout.write(text if text.endswith("\n") else text + "\n")
            sys.stdout.flush()
    return failed
