"""``longhand transcribe``: files in, transcripts out, through a platform that may be our own."""

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cli.client import Client, JobView
from cli.embedded.directory import DataDirectory
from cli.embedded.signals import StopFlag, Stopped
from cli.embedded.stack import Plan, running_stack
from cli.errors import CommandError, printable
from cli.files import check_files, make_output_folder
from cli.models import prepare_model
from cli.progress import Progress, duration, progress_on_stderr
from shared.options import JobOptions

CONCURRENT_JOBS = 4
"""Enough to keep a worker's batch full, few enough to upload one after the other's progress."""
LOOK_S = 1.0
"""How often progress is shown anew; a job's end is shown at once."""
DRAIN_S = 1.0
"""The jobs have ended or were given up: what a worker still holds then can be lost to a kill."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the person asked for."""

    files: tuple[Path, ...]
    options: JobOptions
    """Not validated: the server says what is wrong with them."""
    form: str
    output: Path | None

    def fields(self, model: str | None) -> dict[str, str]:
        """Return the options that are not as they are by default, as fields of ``POST /jobs``."""
        chosen = {**self.options.model_dump(exclude_defaults=True), "model": model}
        return {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in chosen.items()
            if value is not None
        }


@dataclass(frozen=True, slots=True)
class _Target:
    """A platform to submit to, and how to wait in the main thread while it works."""

    url: str
    model: str | None
    run: Callable[[Callable[[], bool]], None]
    lasting: bool = True
    """Whether it runs on afterwards, so that a failed job can be retried."""
    logs: Path | None = None
    """Where its processes' logs are, if they are on this machine."""


def transcribe(request: Request, server: str | None, data: Path) -> int:
    """Do it; return the exit code: 0 when every file has its transcript.

    Raises:
        CommandError: nothing could be submitted at all.
        Stopped: a signal came; everything started has been stopped.
    """
    flag = StopFlag()
    with flag.installed():
        sources, refused = check_files(request.files, request.output)
        with progress_on_stderr() as progress:
            for line in refused:
                progress.say(f"longhand: error: {printable(line)}")
            if not sources:
                return 1
            if request.output is not None:
                make_output_folder(request.output)
            size_bytes = sum(path.stat().st_size for path in sources)
            with _platform(request, server, data, size_bytes, flag, progress) as target:
                outcomes = _run_jobs(request, sources, target, progress)
                failed = _report(request, outcomes, progress)
        return 1 if failed or refused else 0


@contextmanager
def _platform(
    request: Request,
    server: str | None,
    data: Path,
    size_bytes: int,
    flag: StopFlag,
    progress: Progress,
) -> Iterator[_Target]:
    """Provide the platform named, the one that runs in the data directory, or one of our own."""
    if server is not None:
        yield _Target(server, request.options.model, _waiting(flag))
        return
    directory = DataDirectory(data)
    directory.create(for_files_bytes=size_bytes)
    waiting = False
    while (owner := directory.owner()) is not None:
        if owner.purpose == "up":
            progress.say(f"longhand: using the platform that runs at {owner.api_url}")
            model_id = request.options.model
            yield _Target(owner.api_url, model_id, _waiting(flag), logs=directory.logs)
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
        yield _Target(stack.api_url, model.id, stack.run, lasting=False, logs=directory.logs)


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
    outcomes = [(path, Future[str]()) for path in sources]
    waiting = queue.SimpleQueue[tuple[Path, Future[str]]]()
    for outcome in outcomes:
        waiting.put(outcome)
    under_way: set[str] = set()

    def work() -> None:
        with suppress(queue.Empty):
            while not stop.is_set():
                path, future = waiting.get_nowait()
                try:
                    text = _transcribe_file(
                        client, path, request, target, progress, stop, under_way
                    )
                except BaseException as error:  # noqa: BLE001 - raised again by whoever asks for the result
                    future.set_exception(error)
                else:
                    future.set_result(text)

    for _ in range(min(CONCURRENT_JOBS, len(outcomes))):
        # Daemons: a server that does not answer must not keep this process after Ctrl-C.
        threading.Thread(target=work, name="job", daemon=True).start()
    try:
        target.run(lambda: all(future.done() for _, future in outcomes))
    except Stopped:
        # Nobody waits for them any more, and the next run's jobs should not wait behind them.
        for job_id in tuple(under_way):
            client.cancel(job_id)
        raise
    finally:
        stop.set()
    client.close()
    return outcomes


def _transcribe_file(
    client: Client,
    path: Path,
    request: Request,
    target: _Target,
    progress: Progress,
    stop: threading.Event,
    under_way: set[str],
) -> str:
    """Take one file from upload to transcript, in a thread of its own.

    Its job's id is in ``under_way`` from its submission to its end.
    """
    name = str(path)
    size_bytes = path.stat().st_size
    began = time.monotonic()
    progress.show(name, "uploading", 0.0)
    job = client.submit(
        path,
        fields=request.fields(target.model),
        on_sent=lambda sent: progress.show(name, "uploading", sent / max(size_bytes, 1)),
    )
    under_way.add(job.id)
    job = _follow(client, job, name, progress, stop)
    under_way.discard(job.id)
    if job.state != "succeeded":
        reason = job.error or f"the job was {job.state}"
        if job.error_code == "internal_error" and target.logs is not None:
            reason += f" (logs: {target.logs})"
        if job.chunks_done and target.lasting:
            again = f"curl -X POST {target.url}/jobs/{job.id}/retry"
            reason += f"; {job.chunks_done} of its chunks are done, from which it goes on: {again}"
        progress.show(name, job.state)
        raise CommandError(reason)
    text = client.transcript(job.id, request.form)
    if request.output is not None:
        (request.output / f"{path.stem}.{request.form}").write_text(text, encoding="utf-8")
    took_s = time.monotonic() - began
    audio_s = job.duration_s or 0.0
    heard = "no speech found in " if job.heard_nothing else ""
    if job.cached:
        progress.show(name, "done (cached)", 1.0, f"{heard}{duration(audio_s)} of audio")
        return text
    speed = f"{duration(took_s)} with upload, RTFx {_number(audio_s / took_s)}"
    progress.show(name, "done", 1.0, f"{heard}{duration(audio_s)} of audio in {speed}")
    return text


def _follow(
    client: Client, job: JobView, name: str, progress: Progress, stop: threading.Event
) -> JobView:
    """Show a job's progress until it ends."""
    while not job.ended:
        _show(progress, name, job)
        if stop.is_set():
            raise CommandError("stopped")
        job = client.job(job.id, wait_s=LOOK_S)
    return job


def _show(progress: Progress, name: str, job: JobView) -> None:
    if job.waiting_for is not None:
        # A phase of its own: where progress is written line by line, only new phases are.
        progress.show(name, "waiting", None, f"for {job.waiting_for}")
        return
    speed = [] if job.rtfx is None else [f"RTFx {_number(job.rtfx)}"]
    if job.stage == "transcribing" and job.percent is not None:
        left = [] if job.eta_s is None else [f"{duration(job.eta_s)} left"]
        phase = f"{int(job.percent)} %"
        progress.show(name, phase, job.percent / 100, ", ".join(speed + left))
    elif job.stage == "transcribing":
        # The plan grows while a long file is still being decoded.
        chunks = f"chunk {job.chunks_done} of {job.chunks_total}+"
        progress.show(name, job.stage, None, ", ".join([chunks, *speed]))
    else:
        progress.show(name, job.stage)


def _number(factor: float) -> str:
    return f"{factor:.1f}" if factor < 10 else f"{factor:.0f}"


def _report(
    request: Request, outcomes: Sequence[tuple[Path, Future[str]]], progress: Progress
) -> bool:
    """Print what came out, in the order asked for; return whether a file failed."""
    progress.finish()
    failed = False
    for path, future in outcomes:
        try:
            text = future.result()
        except CommandError as error:
            failed = True
            progress.say(printable(f"longhand: error: {path}: {error}"))
            continue
        except OSError as error:
            failed = True
            progress.say(printable(f"longhand: error: {path}: {error.strerror}"))
            continue
        if request.output is None:
            if len(request.files) > 1:
                sys.stdout.write(printable(f"==> {path} <==") + "\n")
            sys.stdout.write(text if text.endswith("\n") else text + "\n")
            sys.stdout.flush()
    return failed
