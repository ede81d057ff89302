"""One file's way from upload to transcript, as one job of the platform."""

import io
import json
import threading
import time
from dataclasses import dataclass, field
from zipfile import ZipFile

from cli.errors import CommandError
from cli.messages import note, warning
from cli.progress.figures import duration, factor
from cli.progress.lines import TRANSCRIBING, Progress
from cli.transcribe.client import Client
from cli.transcribe.job_view import JobView
from cli.transcribe.platform import Platform
from cli.transcribe.request import Request
from cli.transcribe.sources import Source
from cli.transcribe.transcript_files import TranscriptFiles
from cli.transcribe.work import State, Work

MIN_LOOK_S, MAX_LOOK_S = 1.0, 5.0
"""How often the server is asked how far a job is. It tells the job's end at once in any case."""
LOOK_SHARE = 1 / 60
"""Time between two looks as a share of the time that the job has taken."""
FEW_FILES = 10
"""A terminal keeps a line for each file of so small a batch; of a larger one for failed ones."""


@dataclass
class FileJobs:
    """Transcribes the files of a batch, one at a call; safe to use from several threads."""

    request: Request
    outputs: TranscriptFiles | None
    """Where transcripts are written; None: they are left in ``Work.text``."""
    platform: Platform
    progress: Progress
    n_files: int
    stop: threading.Event
    """Set once the batch has ended or is stopped."""
    client: Client
    under_way: dict[str, Work] = field(default_factory=dict)
    """Files by the ids of their jobs, from the job's creation to its end."""

    def transcribe(self, work: Work) -> None:
        """Submit a file, follow its job to the end, and bring the transcript where it belongs.

        Raises:
            CommandError: it failed, or the batch was stopped.
            OSError: the file cannot be read.
        """
        source = work.source
        began_s = time.monotonic()
        job = self._submit(source)
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

    def _submit(self, source: Source) -> JobView:
        progress = self.progress
        if source.url is not None:
            progress.show(source.name, "submitting", None)
            members = self.request.members(self.platform.model)
            return self.client.submit_url(source.url, members=members)
        progress.show(source.name, "uploading", 0.0)
        return self.client.submit(
            source.path,
            fields=self.request.fields(self.platform.model),
            on_sent=lambda sent: progress.show(
                source.name, "uploading", min(1.0, sent / source.size_bytes)
            ),
            on_growth=lambda: progress.say(
                warning(
                    f"{source.name}: something was appended to it during the upload; only what it "
                    "had at the start of the upload is transcribed"
                )
            ),
        )

    def fail(self, work: Work, problem: str) -> None:
        """Note that a file failed, unless it ended because the batch is stopped."""
        if self.stop.is_set():
            return
        work.problem = problem
        work.state = State.FAILED
        detail = problem if self.n_files > 1 else ""  # of a single file it is told in a moment
        self.progress.leave(work.source.name, "failed", detail)

    def keep_partial(self, job_id: str, source: Source, outputs: TranscriptFiles) -> None:
        """Write what an unfinished job has said so far, in every format, unless it is silent.

        Raises:
            CommandError: the server does not answer soon, or it cannot be written.
        """
        for form in self.request.formats:
            found = self.client.partial_transcript(job_id, form, self.request.sizes_of(form))
            if not has_words(form, found):
                return
            path = outputs.write_partial(source, form, found)
            self.progress.say(note(f"{source.name}: what was done is in {path}"))

    def _follow(self, job: JobView, work: Work) -> JobView:
        """Show a job's progress until it ends; return it as it is then."""
        began_s = time.monotonic()
        while job.state not in ("succeeded", "failed", "canceled"):
            work.audio_s = job.duration_s
            work.share = (job.progress.percent or 0.0) / 100
            show_job(self.progress, work.source.name, job)
            if self.stop.is_set():
                raise CommandError("stopped")
            job = self.client.job(job.id, wait_s=look_s(time.monotonic() - began_s))
        return job

    def _why_not(self, job: JobView) -> str:
        platform, error, done = self.platform, job.error, job.progress.chunks_done
        why = error.detail if error else f"the job was {job.state}"
        if error and error.code == "internal_error" and platform.logs is not None:
            why += f" (logs: {platform.logs})"
        if done and platform.lasting:
            again = f"curl -X POST {platform.url}/jobs/{job.id}/retry"
            why += f"; {done} of its chunks are done, from which it goes on: {again}"
        return why

    def _fetch(self, job: JobView, work: Work) -> bool:
        """Bring the transcript where it belongs, in every format; return whether it has words."""
        spoken = False
        for form in self.request.formats:
            found = self.client.transcript(job.id, form, self.request.sizes_of(form))
            spoken = has_words(form, found)
            if self.outputs is None:
                work.text = found.decode()
                continue
            try:
                self.outputs.write(work.source, form, found)
            except CommandError as error:
                if not self.platform.lasting:
                    raise
                at = f"{self.platform.url}/jobs/{job.id}/transcript?format={form}"
                raise CommandError(f"{error}; the transcript is at {at}") from error
        return spoken

    def _tell_end(self, job: JobView, work: Work, took_s: float, *, spoken: bool) -> None:
        name, progress = work.source.name, self.progress
        audio_s = job.duration_s or 0.0
        phase, detail = "done", f"{duration(audio_s)} of audio"
        if not spoken:
            detail = f"no speech found in {detail}"
        if job.cached:
            phase = "done (cached)"
        else:
            detail += f" in {duration(took_s)} with upload, RTFx {factor(audio_s / took_s)}"
        progress.leave(name, phase, detail, line=self.n_files <= FEW_FILES)
        for each in job.transcript.warnings if job.transcript else ():
            progress.say(warning(f"{name}: {each.detail} ({each.code})"))
        if self.request.reference is not None:
            try:
                found = self.client.measure(job.id, self.request.reference)
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
        progress.show(name, "waiting", None, f"for {job.waiting_for.detail}")
        return
    so_far, fraction, details = job.progress, None, []
    if so_far.stage == TRANSCRIBING:
        if so_far.percent is not None:
            fraction = so_far.percent / 100
        else:  # more chunks are planned while a long file is still being decoded
            details.append(f"chunk {so_far.chunks_done} of {so_far.chunks_total}+")
        if so_far.rtfx is not None:
            details.append(f"RTFx {factor(so_far.rtfx)}")
        if fraction is not None and so_far.eta_s is not None:
            details.append(f"{duration(so_far.eta_s)} left")
    progress.show(name, so_far.stage or job.state, fraction, ", ".join(details))


def has_words(form: str, transcript: bytes) -> bool:
    """Whether a transcript in one of the formats has any words."""
    if form == "json":
        return bool(json.loads(transcript)["text"])
    if form == "docx":
        with ZipFile(io.BytesIO(transcript)) as archive:
            return b"<w:p>" in archive.read("word/document.xml")
    heading_lines = 1 if form in ("vtt", "tsv") else 0
    return len(transcript.splitlines()) > heading_lines
