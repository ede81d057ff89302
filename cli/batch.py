"""A batch of files on their way: a few at a time, from upload to transcript."""

import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cli.client import Client, JobView
from cli.embedded.signals import Stopped
from cli.errors import CommandError, printable
from cli.files import Source, is_folder
from cli.options import SUBTITLES
from cli.outputs import Outputs
from cli.printing import as_printed, print_text
from cli.progress import TRANSCRIBING, Progress, duration, factor
from cli.tally import State, Tally, Work
from shared.models.options import JobOptions

LOOK_S = 1.0
"""How often progress is shown anew; a job's end is shown at once."""
FEW_FILES = 10
"""So many may each leave a line on a terminal; of more, only those that failed do."""
ABANDON_S = 6.0
"""How long the end of an interrupted batch waits for what its jobs have said so far."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the person asked for."""

    files: tuple[Path, ...]
    options: JobOptions
    formats: tuple[str, ...] = ("txt",)
    """One, where there is no ``output``."""
    output: Path | None = None
    jobs: int = 4
    """Files under way at once: enough to keep a worker's batch full, few enough to upload one after
    the other's progress."""
    skip_existing: bool = False
    reference: str | None = None
    """What was really said in the one file there is."""
    max_line_width: int | None = None
    """Characters of a subtitle's line; None: as the server has it."""
    max_line_count: int | None = None
    """Lines of a subtitle, likewise."""

    @property
    def several(self) -> bool:
        """Whether more than one file was asked for, however many there are."""
        return len(self.files) > 1 or is_folder(self.files[0])

    def sizes(self, form: str) -> dict[str, str]:
        """Return the sizes of what is shown at once in a format, as the server calls them."""
        sizes = {"max_line_width": self.max_line_width, "max_line_count": self.max_line_count}
        chosen = {name: str(size) for name, size in sizes.items() if size is not None}
        return chosen if form in SUBTITLES else {}

    def fields(self, model: str | None) -> dict[str, str]:
        """Return the options that are not as they are by default, as fields of ``POST /jobs``."""
        chosen = {**self.options.model_dump(exclude_defaults=True), "model": model}
        return {name: _field(value) for name, value in chosen.items() if value is not None}


def _field(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True, slots=True)
class Target:
    """A platform to submit to, and how to wait in the main thread while it works."""

    url: str
    model: str | None
    run: Callable[[Callable[[], bool]], None]
    lasting: bool = True
    """Whether it runs on afterwards, so that a failed job can be retried."""
    logs: Path | None = None
    """Where its processes' logs are, if they are on this machine."""


class Batch:
    """Some files and what becomes of them; ``run`` it once."""

    def __init__(
        self,
        request: Request,
        sources: Sequence[Source],
        outputs: Outputs | None,
        target: Target,
        progress: Progress,
        client: Client | None = None,
    ) -> None:
        self._request = request
        self._outputs = outputs
        self._target = target
        self._progress = progress
        self._stop = threading.Event()
        self._client = client or Client(target.url, self._stop)
        self._works = [Work(source) for source in sources]
        self._unprinted = list(self._works)
        self._under_way: dict[str, Work] = {}
        """Jobs from their submission to their end."""
        self._tally = Tally(self._works, time.monotonic)
        self._total_s = 0.0

    def run(self, *, skipped: int = 0, refused: int = 0) -> bool:
        """Do it all, printing transcripts in the order asked for; return whether all succeeded.

        Args:
            skipped: files that were done before, for the closing summary.
            refused: names of which nothing could be made, for the same.

        Raises:
            CommandError: stdout cannot be written to.
            BrokenPipeError: nobody reads stdout any more.
            Stopped: a signal came; the jobs are cancelled, what they have said so far is kept.
        """
        waiting = queue.SimpleQueue[Work]()
        for work in self._works:
            waiting.put(work)
        for _ in range(min(self._request.jobs, len(self._works))):
            # Daemons: a server that does not answer must not keep this process after Ctrl-C.
            threading.Thread(target=self._serve, args=(waiting,), name="job", daemon=True).start()
        try:
            self._target.run(self._look)
        except (Stopped, CommandError, OSError) as error:
            self._progress.finish()
            stopped = isinstance(error, Stopped)
            self._abandon(keep=stopped)
            if stopped:
                with suppress(CommandError, OSError):  # the terminal may be what has ended
                    self._print(all_that_is=True)
                self._summarize(skipped, refused)
            raise
        finally:
            self._stop.set()
        self._progress.finish()
        self._client.close()
        self._summarize(skipped, refused)
        return all(work.state is State.DONE for work in self._works)

    def _look(self) -> bool:
        """Show and print what is new; return whether all files have ended. Main thread."""
        now_s = time.monotonic()
        if now_s - self._total_s >= LOOK_S:
            self._total_s = now_s
            self._progress.total(self._tally.total())
        all_ended = all(work.ended.is_set() for work in self._works)
        self._print()  # after that look: what ends in between is printed in the next round
        return all_ended

    def _print(self, *, all_that_is: bool = False) -> None:
        """Print the transcripts that are next in order, or all that there are."""
        while self._unprinted:
            ready = (i for i, work in enumerate(self._unprinted) if work.ended.is_set())
            index = next(ready, None)
            if index is None or (index > 0 and not all_that_is):
                return
            work = self._unprinted.pop(index)
            if work.bug is not None:
                raise work.bug
            if self._outputs is None and work.state is State.DONE:
                text = as_printed(work, self._request.formats[0], several=self._request.several)
                work.texts.clear()
                self._progress.aside(partial(print_text, text))

    def _serve(self, waiting: "queue.SimpleQueue[Work]") -> None:
        """Take one file after the other, in a thread of its own."""
        with suppress(queue.Empty):
            while not self._stop.is_set():
                work = waiting.get_nowait()
                try:
                    self._transcribe(work)
                except CommandError as error:
                    self._fail(work, str(error))
                except OSError as error:
                    self._fail(work, error.strerror or str(error))
                except BaseException as error:  # noqa: BLE001 - raised again where it is seen
                    work.bug = error
                finally:
                    work.ended.set()

    def _fail(self, work: Work, problem: str) -> None:
        if self._stop.is_set():
            return  # it has not failed, it was given up
        work.problem = problem
        work.state = State.FAILED
        detail = problem if len(self._works) > 1 else ""  # said in a moment anyway
        self._progress.leave(work.source.name, "failed", detail)

    def _transcribe(self, work: Work) -> None:
        """Take one file from upload to transcript."""
        source, progress = work.source, self._progress
        began_s = time.monotonic()
        progress.show(source.name, "uploading", 0.0)
        job = self._client.submit(
            source.path,
            fields=self._request.fields(self._target.model),
            # At its end the server still has to answer.
            on_sent=lambda sent: progress.show(
                source.name, "uploading", min(0.99, sent / source.size_bytes)
            ),
        )
        self._under_way[job.id] = work
        try:
            job = self._follow(job, work)
        finally:
            self._under_way.pop(job.id, None)
        if job.state != "succeeded":
            raise CommandError(self._why_not(job))
        self._fetch(job, work)
        work.audio_s, work.cached, work.share = job.duration_s, job.cached, 1.0
        work.state = State.DONE
        self._tell_end(job, work, time.monotonic() - began_s)

    def _follow(self, job: JobView, work: Work) -> JobView:
        """Show a job's progress until it ends."""
        while not job.ended:
            work.audio_s = job.duration_s
            work.share = (job.percent or 0.0) / 100
            _show(self._progress, work.source.name, job)
            if self._stop.is_set():
                raise CommandError("stopped")
            job = self._client.job(job.id, wait_s=LOOK_S)
        return job

    def _why_not(self, job: JobView) -> str:
        reason = job.error or f"the job was {job.state}"
        if job.error_code == "internal_error" and self._target.logs is not None:
            reason += f" (logs: {self._target.logs})"
        if job.chunks_done and self._target.lasting:
            again = f"curl -X POST {self._target.url}/jobs/{job.id}/retry"
            reason += f"; {job.chunks_done} of its chunks are done, from which it goes on: {again}"
        return reason

    def _fetch(self, job: JobView, work: Work) -> None:
        """Bring the transcript to its place, in every format."""
        for form in self._request.formats:
            text = self._client.transcript(job.id, form, self._request.sizes(form))
            if self._outputs is None:
                work.texts[form] = text
                continue
            try:
                self._outputs.write(work.source, form, text)
            except CommandError as error:
                if not self._target.lasting:
                    raise
                at = f"{self._target.url}/jobs/{job.id}/transcript?format={form}"
                raise CommandError(f"{error}; the transcript is at {at}") from error

    def _tell_end(self, job: JobView, work: Work, took_s: float) -> None:
        name, progress = work.source.name, self._progress
        audio_s = job.duration_s or 0.0
        heard = "no speech found in " if job.heard_nothing else ""
        if job.cached:
            phase, detail = "done (cached)", f"{heard}{duration(audio_s)} of audio"
        else:
            speed = f"{duration(took_s)} with upload, RTFx {factor(audio_s / took_s)}"
            phase, detail = "done", f"{heard}{duration(audio_s)} of audio in {speed}"
        progress.leave(name, phase, detail, line=len(self._works) <= FEW_FILES)
        for warning in job.warnings:
            progress.say(printable(f"longhand: warning: {name}: {warning}"))
        if self._request.reference is not None:
            try:
                found = self._client.measure(job.id, self._request.reference)
            except CommandError as error:
                found = f"its errors could not be counted: {error}"
            progress.say(printable(f"longhand: {name}: {found}"))

    def _summarize(self, skipped: int, refused: int) -> None:
        for work in self._works:
            if work.state is State.FAILED:
                self._progress.say(
                    printable(f"longhand: error: {work.source.name}: {work.problem}")
                )
        if len(self._works) + skipped + refused > 1:
            summary = self._tally.summary(skipped=skipped, refused=refused)
            self._progress.say(f"longhand: {summary}")

    def _abandon(self, *, keep: bool) -> None:
        """Cancel the jobs, which nobody waits for any more; ``keep`` what they have said so far.

        The next run's jobs should not wait behind them.
        """
        left = tuple(self._under_way.items())
        self._stop.set()
        outputs = self._outputs if keep else None
        if left and outputs is not None:
            self._progress.say("longhand: keeping what was done so far")
        threads = [
            threading.Thread(
                target=self._give_up, args=(*job, outputs), name="abandon", daemon=True
            )
            for job in left
        ]
        for thread in threads:
            thread.start()
        deadline_s = time.monotonic() + ABANDON_S
        for thread in threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        if self._outputs is not None:
            self._outputs.close()

    def _give_up(self, job_id: str, work: Work, outputs: Outputs | None) -> None:
        try:
            if outputs is not None:
                self._keep_partial(job_id, work.source, outputs)
        except CommandError as error:
            self._progress.say(printable(f"longhand: error: {error}"))
        finally:
            self._client.cancel(job_id)

    def _keep_partial(self, job_id: str, source: Source, outputs: Outputs) -> None:
        if not self._client.partial_transcript(job_id, "txt").strip():
            return
        for form in self._request.formats:
            sizes = self._request.sizes(form)
            path = outputs.write_partial(
                source, form, self._client.partial_transcript(job_id, form, sizes)
            )
            self._progress.say(printable(f"longhand: {source.name}: what was done is in {path}"))


def _show(progress: Progress, name: str, job: JobView) -> None:
    if job.waiting_for is not None:
        # A phase of its own: where progress is written line by line, only new phases are.
        progress.show(name, "waiting", None, f"for {job.waiting_for}")
        return
    speed = [] if job.rtfx is None else [f"RTFx {factor(job.rtfx)}"]
    if job.stage == TRANSCRIBING and job.percent is not None:
        left = [] if job.eta_s is None else [f"{duration(job.eta_s)} left"]
        progress.show(name, job.stage, job.percent / 100, ", ".join(speed + left))
    elif job.stage == TRANSCRIBING:
        # The plan grows while a long file is still being decoded.
        chunks = f"chunk {job.chunks_done} of {job.chunks_total}+"
        progress.show(name, job.stage, None, ", ".join([chunks, *speed]))
    else:
        progress.show(name, job.stage)
