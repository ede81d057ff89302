"""One file's way from upload to transcript, as one job of the platform."""

import io
import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from zipfile import ZipFile

from longhand_sdk import Job, JobInfo, Longhand
from longhand_sdk import Progress as Sent
from longhand_sdk.models import JobProgress, Reason

from cli.errors import CommandError
from cli.messages import note, one_line, warning
from cli.progress.figures import duration, factor
from cli.progress.lines import TRANSCRIBING, Progress
from cli.server import connect, told
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
LAST_WORDS_S = 3.0
"""How long an interrupted job's server may take to an answer."""
CANCEL_S = 1.0


@dataclass
class FileJobs:
    """Transcribes the files of a batch, one at a call; safe to use from several threads."""

    request: Request
    platform: Platform
    progress: Progress
    stop: threading.Event
    """Set once the batch has ended or is stopped."""
    client: Longhand
    n_files: int = 0
    """How many files the batch has."""
    under_way: dict[str, Work] = field(default_factory=dict)
    """Files by the ids of their jobs, from the job's creation to its end."""

    def transcribe(self, work: Work) -> None:
        """Submit a file, follow its job to the end, and bring the transcript where it belongs.

        Raises:
            CommandError: it failed, or the batch was stopped.
            OSError: the file cannot be read.
        """
        with told():
            began_s = time.monotonic()
            job = self._submit(work.source)
            self.under_way[job.id] = work
            try:
                self._follow(job, work)
            finally:
                self.under_way.pop(job.id, None)
            if job.state != "succeeded":
                raise CommandError(self._why_not(job.info))
            spoken = self._fetch(job, work)
            work.audio_s, work.cached = job.info.duration_s, job.info.cached
            work.share, work.state = 1.0, State.DONE
            self._tell_end(job, work, time.monotonic() - began_s, spoken=spoken)

    def _submit(self, source: Source) -> Job:
        progress = self.progress
        members = self.request.members(self.platform.model)
        if source.url is not None:
            progress.show(source.name, "submitting", None)
            return self.client.jobs.submit(source.url, **members)
        sent_bytes = 0

        def show(sent: Sent) -> None:
            nonlocal sent_bytes
            sent_bytes = sent.total_bytes
            progress.show(source.name, "uploading", (sent.percent or 0.0) / 100)

        progress.show(source.name, "uploading", 0.0)
        file_name = one_line(source.path.name)
        job = self.client.jobs.submit(source.path, file_name=file_name, on_progress=show, **members)
        with suppress(OSError):  # it may have been moved away since
            if source.path.stat().st_size > sent_bytes:
                progress.say(
                    warning(
                        f"{source.name}: something was appended to it during the upload; only what "
                        "it had at the start of the upload is transcribed"
                    )
                )
        return job

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
        with told(), connect(self.platform.url, timeout_s=LAST_WORDS_S, retry_s=0) as client:
            for form in self.request.formats:
                query = {"format": form, "partial": "true", **self.request.sizes_of(form)}
                answer = client.request("GET", f"/jobs/{job_id}/transcript", params=query)
                if not has_words(form, answer.content):
                    return
                path = outputs.write_partial(source, form, answer.content)
                self.progress.say(note(f"{source.name}: what was done is in {path}"))

    def cancel(self, job_id: str) -> None:
        """Ask for a job to be canceled; a server that is away or slow is not waited for."""
        with (
            suppress(CommandError),
            told(),
            connect(self.platform.url, timeout_s=CANCEL_S, retry_s=0) as client,
        ):
            client.request("POST", f"/jobs/{job_id}/cancel")

    def _follow(self, job: Job, work: Work) -> None:
        """Show a job's progress until it ends."""
        began_s = time.monotonic()
        while not job.info.ended:
            work.audio_s = job.info.duration_s
            work.share = (job.info.progress.percent or 0.0) / 100
            show_job(self.progress, work.source.name, job.info)
            if self.stop.is_set():
                raise CommandError("stopped")
            job.refresh(wait_s=look_s(time.monotonic() - began_s), text=False)

    def _why_not(self, job: JobInfo) -> str:
        platform, error, done = self.platform, job.error, job.progress.chunks_done
        why = error.detail if error else f"the job was {job.state}"
        if error and error.code == "internal_error" and platform.logs is not None:
            why += f" (logs: {platform.logs})"
        if done and platform.lasting:
            again = f"curl -X POST {platform.url}/jobs/{job.id}/retry"
            why += f"; {done} of its chunks are done, from which it goes on: {again}"
        return why

    def _fetch(self, job: Job, work: Work) -> bool:
        """Bring the transcript where it belongs, in every format; return whether it has words."""
        spoken = False
        for form in self.request.formats:
            found = job.export(form, **self.request.sizes_of(form))
            spoken = has_words(form, found)
            if work.outputs is None:
                work.text = found.decode()
                continue
            try:
                work.outputs.write(work.source, form, found)
            except CommandError as error:
                if not self.platform.lasting:
                    raise
                at = f"{self.platform.url}/jobs/{job.id}/transcript?format={form}"
                raise CommandError(f"{error}; the transcript is at {at}") from error
        return spoken

    def _tell_end(self, job: Job, work: Work, took_s: float, *, spoken: bool) -> None:
        name, progress, info = work.source.name, self.progress, job.info
        audio_s = info.duration_s or 0.0
        phase, detail = "done", f"{duration(audio_s)} of audio"
        if not spoken:
            detail = f"no speech found in {detail}"
        if info.cached:
            phase = "done (cached)"
        else:
            detail += f" in {duration(took_s)} with upload, RTFx {factor(audio_s / took_s)}"
        progress.leave(name, phase, detail, line=self.n_files <= FEW_FILES)
        for each in info.transcript.warnings if info.transcript else ():
            progress.say(warning(f"{name}: {each.detail} ({each.code})"))
        if self.request.reference is not None:
            progress.say(note(f"{name}: {_measured(job, self.request.reference)}"))


def _measured(job: Job, reference: str) -> str:
    """Return the error rates of a job against what was really said, as a sentence."""
    try:
        with told():
            found = job.measure(reference)
    except CommandError as error:
        return f"its errors could not be counted: {error}"
    return (
        f"word error rate {found.wer:.1%} ({found.word_errors} of {found.words} words), "
        f"character error rate {found.cer:.1%}"
    )


def look_s(elapsed_s: float) -> float:
    """Return how long to wait for a job's end before its progress is shown anew."""
    return min(MAX_LOOK_S, max(MIN_LOOK_S, elapsed_s * LOOK_SHARE))


def show_job(progress: Progress, name: str, job: JobInfo) -> None:
    """Show how far a job is that has not ended."""
    show_progress(progress, name, job.progress, job.waiting_for, job.state)


def show_progress(
    progress: Progress, name: str, so_far: JobProgress, waiting_for: Reason | None, state: str
) -> None:
    """Show how far a job is, and what it waits for."""
    if waiting_for is not None:
        # A phase of its own: plain progress writes a line for a new phase only.
        progress.show(name, "waiting", None, f"for {waiting_for.detail}")
        return
    fraction, details = None, []
    if so_far.stage == TRANSCRIBING:
        if so_far.percent is not None:
            fraction = so_far.percent / 100
        else:  # more chunks are planned while a long file is still being decoded
            details.append(f"chunk {so_far.chunks_done} of {so_far.chunks_total}+")
        if so_far.rtfx is not None:
            details.append(f"RTFx {factor(so_far.rtfx)}")
        if fraction is not None and so_far.eta_s is not None:
            details.append(f"{duration(so_far.eta_s)} left")
    progress.show(name, so_far.stage or state, fraction, ", ".join(details))


def has_words(form: str, transcript: bytes) -> bool:
    """Whether a transcript in one of the formats has any words."""
    if form == "json":
        return bool(json.loads(transcript)["text"])
    if form == "docx":
        with ZipFile(io.BytesIO(transcript)) as archive:
            return b"<w:p>" in archive.read("word/document.xml")
    heading_lines = 1 if form in ("vtt", "tsv") else 0
    return len(transcript.splitlines()) > heading_lines
