"""Calls: a file is taken in, and its job is waited for, by the native API and dialects alike.

A call goes through four steps: ``counted`` counts it, ``called`` submits its file and has the job
wanted while its client waits, ``end_of`` waits for the job's end, ``transcript_of`` opens what it
has to say.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from uuid import UUID

from anyio import to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from api.idempotency import submit_once
from api.intake.submit import Remote, Source, Terms, Uploaded, request_of
from api.native.call_metrics import CallMetrics
from api.native.schemas.accuracy import CacheUse
from api.native.snapshots import JobKey, Snapshot, Snapshots
from api.native.waits import at_its_end
from api.resources import Resources
from shared.infra import errors
from shared.infra.errors import AUDIO_CODES, FETCH_CODES, AudioRefused, JobCanceled, JobFailed
from shared.models.options import JobOptions
from shared.store.jobs.read import JobView, gpu_memory_bytes
from shared.store.states import JobState
from shared.store.transcripts import StoredTranscript, open_transcript


@dataclass(frozen=True, slots=True)
class Call:
    """A call whose file was taken in."""

    tenant: str
    job_id: UUID
    began: float
    """By ``time.perf_counter``."""
    joined: bool
    """Whether its job is an equal one that was under way."""
    asked: JobOptions

    @property
    def key(self) -> JobKey:
        """Its job, for a loader of snapshots."""
        return JobKey(self.tenant, self.job_id)


@dataclass(frozen=True, slots=True)
class Answered:
    """The transcript of a call's job, and what it took."""

    transcript: StoredTranscript
    latency_s: float
    hit: bool
    """Whether it was not transcribed for this call."""
    gpu_bytes: int | None
    """GPU memory of the model's process, where that is known."""
    cache_use: CacheUse


@contextmanager
def counted(metrics: CallMetrics) -> Iterator[None]:
    """Count a call as under way while the block runs, and how it ends if that raises."""
    with metrics.active():
        try:
            yield
        except (errors.TooManyCalls, errors.LimitReached):
            metrics.rejected()
            raise
        except ClientDisconnect:
            metrics.ended("left")
            raise
        except Exception:
            metrics.ended("error")
            raise


@asynccontextmanager
async def called(
    request: Request, resources: Resources, tenant: str, source: Source | Remote | Uploaded
) -> AsyncIterator[Call]:
    """Take a file in; its job is wanted while the block runs.

    The job may be an equal one that is under way. When the block ends, the job goes on for
    ``LONGHAND_CALL_GRACE_S``, and is canceled unless somebody asks for the same meanwhile.

    Raises:
        TooManyCalls: as many clients wait as may.
        TooManyAtOnce: as many of the tenant's.
        LonghandError: as ``submit_once``.
        JobCanceled: the job or its transcript was deleted within the block.
    """
    began = time.perf_counter()
    with resources.calls.place(tenant):
        terms = Terms(wanted_s=resources.calls.wanted_s)
        submitted = await submit_once(request, resources, tenant, source, terms)
        created = submitted.created
        call = Call(tenant, created.job_id, began, created.joined, request_of(source).asked)
        with resources.calls.waiting(call.job_id), canceled_if_deleted(call.job_id):
            yield call


@contextmanager
def canceled_if_deleted(job_id: UUID) -> Iterator[None]:
    """Tell a client whose job or transcript is deleted meanwhile that the job was canceled.

    Raises:
        JobCanceled: the block raises that one of them is gone.
    """
    try:
        yield
    except (errors.JobNotFound, errors.TranscriptDeleted) as error:
        raise JobCanceled("the job was deleted", str(job_id)) from error


async def end_of(
    call: Call,
    request: Request,
    resources: Resources,
    loader: Snapshots,
    wait_s: float | None = None,
) -> Snapshot:
    """Return the job of a call at its end, or as it is after ``wait_s`` or when the server stops.

    Raises:
        TooManyStreams: as many clients as may are watching jobs.
        TooManyAtOnce: as many clients of the tenant are.
        ClientDisconnect: the client has left first.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    return await at_its_end(request, resources.watcher, loader, call.key, wait_s)


def check_succeeded(view: JobView) -> None:
    """See that a job that has ended has a transcript.

    Raises:
        JobCanceled: it was canceled.
        AudioRefused: its audio is at fault.
        JobFailed: it has failed for another reason.
    """
    if view.state == JobState.SUCCEEDED:
        return
    job_id = str(view.id)
    if view.state == JobState.CANCELED:
        raise JobCanceled("the job was canceled", job_id)
    code, detail = view.error_code or "", view.error_detail or ""
    kind = AudioRefused if code in AUDIO_CODES | FETCH_CODES else JobFailed
    raise kind(detail, job_id, {"code": code, "detail": detail})


async def transcript_of(
    call: Call,
    snapshot: Snapshot,
    resources: Resources,
    metrics: CallMetrics,
    *,
    words: bool = False,
) -> Answered:
    """Open the transcript of a call whose job has ended, and count the call as answered.

    Without ``words`` only the segments without them may be read.

    Raises:
        JobFailed: there is none; as ``check_succeeded``.
        TranscriptDeleted: it was deleted since.
    """
    view = snapshot.view
    check_succeeded(view)
    hit = view.cached or call.joined
    gpu_bytes = None
    if not hit:
        gpu_bytes = await to_thread.run_sync(
            gpu_memory_bytes, resources.engine, call.tenant, view.id
        )
    found = None if words else snapshot.short_transcript
    if found is None:
        found = await to_thread.run_sync(open_transcript, resources.engine, call.tenant, view.id)
    latency_s = time.perf_counter() - call.began
    use = metrics.succeeded(
        call.tenant,
        found.header.language,
        latency_s=latency_s,
        hit=hit,
        chunks=view.chunks_done,
        gpu_bytes=gpu_bytes,
    )
    return Answered(found, latency_s, hit, gpu_bytes, use)
