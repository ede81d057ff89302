"""One file's way from upload to transcript, as one job of the platform."""

import threading
import time

from cli.errors import CommandError
from cli.formats import has_words
from cli.messages import note, warning
from cli.progress.figures import duration, factor
from cli.progress.protocol import TRANSCRIBING, Progress
from cli.transcribe.client import Client
from cli.transcribe.job_view import JobView
from cli.transcribe.platform import Platform
from cli.transcribe.request import Request
from cli.transcribe.sources import Source
from cli.transcribe.transcript_files import TranscriptFiles
from cli.transcribe.work import State, Work

MIN_LOOK_S, MAX_LOOK_S = 1.0, 5.0
"""How often the server is asked how far a job is. Its end is told at once in any case."""
LOOK_SHARE = 1 / 60
"""Time between two looks as a share of the time that the job has taken: a minute's job is asked
about every second, one of five minutes or more every MAX_LOOK_S."""
FEW_FILES = 10
"""A batch of so many leaves a line on a terminal for each; a larger one only for what failed."""


class FileJobs:
    """Transcribes the files of a batch, one at a call; safe to use from several threads."""

    def __init__(
        self,
        request: Request,
        outputs: TranscriptFiles | None,
        platform: Platform,
        progress: Progress,
        client: Client,
        stop: threading.Event,
        *,
        n_files: int,
    ) -> None:
        """``outputs`` is where transcripts are written; None: they are left in ``Work.texts``."""
        self._request = request
        self._outputs = outputs
        self._platform = platform
        self._progress = progress
        self._client = client
        self._stop = stop
        self._n_files = n_files
        self.under_way: dict[str, Work] = {}
        """Files by the ids of their jobs, from the job's creation to its end."""

    def transcribe(self, work: Work) -> None:
        """Upload a file, follow its job to the end, and bring the transcript where it belongs.

        Raises:
            CommandError: it failed, or the batch was stopped.
            OSError: the file cannot be read.
        """
        source, progress = work.source, self._progress
        began_s = time.monotonic()
        progress.show(source.name, "uploading", 0.0)
        job = self._client.submit(
            source.path,
            fields=self._request.fields(self._platform.model),
            # Not 1: once the last byte is sent, the server still has to answer.
            on_sent=lambda sent: progress.show(
                source.name, "uploading", min(0.99, sent / source.size_bytes)
            ),
        )
        self.under_way[job.id] = work
        try:
            job = self._follow(job, work)
        finally:
            self.under_way.pop(job.id, None)
        if job.state != "succeeded":
            raise CommandError(self._why_not(job))
        spoken = self._fetch(job, work)
        work.audio_s, work.cached, work.share = job.duration_s, job.cached, 1.0
        work.state = State.DONE
        self._tell_end(job, work, time.monotonic() - began_s, spoken=spoken)

    def fail(self, work: Work, problem: str) -> None:
        """Note that a file failed; not once the batch is stopped, which is why its files end."""
        if self._stop.is_set():
            return
        work.problem = problem
        work.state = State.FAILED
        detail = problem if self._n_files > 1 else ""  # of a single file it is told in a moment
        self._progress.leave(work.source.name, "failed", detail)

    def keep_partial(self, job_id: str, source: Source, outputs: TranscriptFiles) -> None:
        """Write what an unfinished job has said so far, in every format; nothing of a silent one.

        Raises:
            CommandError: the server does not tell soon, or it cannot be written.
        """
        plain = self._client.partial_transcript(job_id, "txt")
        if not has_words("txt", plain):
            return
        for form in self._request.formats:
            sizes = self._request.sizes(form)
            text = plain if form == "txt" else self._client.partial_transcript(job_id, form, sizes)
            path = outputs.write_partial(source, form, text)
            self._progress.say(note(f"{source.name}: what was done is in {path}"))

    def _follow(self, job: JobView, work: Work) -> JobView:
        """Show a job's progress until it ends; return it as it is then."""
        began_s = time.monotonic()
        while not job.ended:
            work.audio_s = job.duration_s
            work.share = (job.percent or 0.0) / 100
            show_job(self._progress, work.source.name, job)
            if self._stop.is_set():
                raise CommandError("stopped")
            job = self._client.job(job.id, wait_s=look_s(time.monotonic() - began_s))
        return job

    def _why_not(self, job: JobView) -> str:
        why = job.error or f"the job was {job.state}"
        if job.error_code == "internal_error" and self._platform.logs is not None:
            why += f" (logs: {self._platform.logs})"
        if job.chunks_done and self._platform.lasting:
            again = f"curl -X POST {self._platform.url}/jobs/{job.id}/retry"
            why += f"; {job.chunks_done} of its chunks are done, from which it goes on: {again}"
        return why

    def _fetch(self, job: JobView, work: Work) -> bool:
        """Bring the transcript where it belongs, in every format; return whether it has words."""
        spoken = False
        for form in self._request.formats:
            text = self._client.transcript(job.id, form, self._request.sizes(form))
            spoken = has_words(form, text)
            if self._outputs is None:
                work.texts[form] = text
                continue
            try:
                self._outputs.write(work.source, form, text)
            except CommandError as error:
                if not self._platform.lasting:
                    raise
                at = f"{self._platform.url}/jobs/{job.id}/transcript?format={form}"
                raise CommandError(f"{error}; the transcript is at {at}") from error
        return spoken

    def _tell_end(self, job: JobView, work: Work, took_s: float, *, spoken: bool) -> None:
        name, progress = work.source.name, self._progress
        audio_s = job.duration_s or 0.0
        heard = "" if spoken else "no speech found in "
        if job.cached:
            phase, detail = "done (cached)", f"{heard}{duration(audio_s)} of audio"
        else:
            speed = f"{duration(took_s)} with upload, RTFx {factor(audio_s / took_s)}"
            phase, detail = "done", f"{heard}{duration(audio_s)} of audio in {speed}"
        progress.leave(name, phase, detail, line=self._n_files <= FEW_FILES)
        for each in job.warnings:
            progress.say(warning(f"{name}: {each}"))
        if self._request.reference is not None:
            try:
                found = self._client.measure(job.id, self._request.reference)
            except CommandError as error:
                found = f"its errors could not be counted: {error}"
            progress.say(note(f"{name}: {found}"))


def look_s(elapsed_s: float) -> float:
    """Return how long to wait for a job's end before its progress is shown anew."""
    return min(MAX_LOOK_S, max(MIN_LOOK_S, elapsed_s * LOOK_SHARE))


def show_job(progress: Progress, name: str, job: JobView) -> None:
    """Show how far a job is that has not ended."""
    if job.waiting_for is not None:
        # A phase of its own: plain progress writes a line for a new phase only.
        progress.show(name, "waiting", None, f"for {job.waiting_for}")
        return
    speed = [] if job.rtfx is None else [f"RTFx {factor(job.rtfx)}"]
    if job.stage == TRANSCRIBING and job.percent is not None:
        left = [] if job.eta_s is None else [f"{duration(job.eta_s)} left"]
        progress.show(name, job.stage, job.percent / 100, ", ".join(speed + left))
    elif job.stage == TRANSCRIBING:
        # More chunks are planned while a long file is still being decoded.
        chunks = f"chunk {job.chunks_done} of {job.chunks_total}+"
        progress.show(name, job.stage, None, ", ".join([chunks, *speed]))
    else:
        progress.show(name, job.stage)
