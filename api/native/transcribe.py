"""``POST /transcribe``: a file in, its transcript out, in one request."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, NoReturn
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from api.access.routes import needs
from api.idempotency import submit_once
from api.intake.submit import Terms, request_of
from api.native import snapshots
from api.native.accuracy import compare
from api.native.answers import accepted, answer_with_snapshot, stream
from api.native.call_metrics import CallMetrics
from api.native.lifecycle import SUBMISSION_PROBLEMS
from api.native.schemas.calls import Transcription
from api.native.schemas.jobs import Job
from api.native.waits import at_its_end
from api.native.ways_in import source_of
from api.openapi import job_body, located, problems
from api.resources import Provided, Resources, Tenant, from_state
from shared.infra import errors
from shared.infra.errors import (
    AUDIO_CODES,
    FETCH_CODES,
    AudioRefused,
    JobCanceled,
    JobFailed,
    TooManyStreams,
)
from shared.speech.formats import in_blocks, write_text
from shared.speech.transcript import TranscriptHeader
from shared.store.accounts.scopes import Scope
from shared.store.jobs.accuracy import get_text
from shared.store.jobs.calls import keep_call
from shared.store.jobs.read import JobView, gpu_memory_bytes
from shared.store.states import JobState
from shared.store.transcripts import StoredTranscript, open_transcript

router = APIRouter(tags=["jobs"])

_LATENCY_DIGITS = 3


@dataclass(frozen=True, slots=True)
class _Call:
    """A call whose file was taken in."""

    tenant: str
    job_id: UUID
    began: float
    """By ``time.perf_counter``."""
    joined: bool
    reference: str | None


@needs(Scope.JOBS_WRITE)
@router.post(
    "/transcribe",
    summary="Transcribe a file and wait for the text",
    response_model=Transcription,
    openapi_extra=job_body(),
    responses=problems(
        *SUBMISSION_PROBLEMS,
        errors.TooManyCalls,
        errors.TooManyAtOnce,
        errors.AudioRefused,
        errors.JobCanceled,
        errors.JobFailed,
    )
    | {202: {"model": Job, **located("The wait is over and the job goes on")}},
)
async def transcribe(
    request: Request,
    resources: Provided,
    loader: snapshots.Provided,
    metrics: Annotated[CallMetrics, from_state("call_metrics")],
    tenant: Tenant,
    wait: Annotated[
        float | None,
        Query(ge=0, description="seconds to wait, at most, instead of LONGHAND_CALL_WAIT_S"),
    ] = None,
) -> Response:
    """Take a file like `POST /jobs`, and answer with its text as soon as it is transcribed.

    The job goes before all jobs of the same tenant whose clients do not wait. Calls with the same
    file and options share one job. If all of their clients leave, it goes on for a minute, and is
    canceled unless somebody asks for the same meanwhile. When the wait is over, the answer is 202
    with the job, which goes on in any case.
    """
    began = time.perf_counter()
    limit_s = resources.settings.call_wait_s
    wait_s = limit_s if wait is None else min(wait, limit_s)
    with metrics.active():
        try:
            with resources.calls.place(tenant):
                call = await _submit(request, resources, tenant, began)
                with resources.calls.waiting(call.job_id), _canceled_if_deleted(call.job_id):
                    snapshot = await _wait(request, resources, loader, call, wait_s)
                    if snapshot is None or not snapshot.view.ended:
                        return await _accept(resources, loader, metrics, call)
            with _canceled_if_deleted(call.job_id):
                return await _answer(request, resources, metrics, call, snapshot)
        except (errors.TooManyCalls, errors.LimitReached):
            metrics.rejected()
            raise
        except ClientDisconnect:
            metrics.ended("left")
            raise
        except Exception:
            metrics.ended("error")
            raise


async def _submit(request: Request, resources: Resources, tenant: str, began: float) -> _Call:
    async with source_of(request, resources, tenant) as source:
        terms = Terms(wanted_s=resources.calls.wanted_s)
        submitted = await submit_once(request, resources, tenant, source, terms)
    created = submitted.created
    reference = request_of(source).asked.reference
    return _Call(tenant, created.job_id, began, created.joined, reference)


async def _wait(
    request: Request,
    resources: Resources,
    loader: snapshots.Snapshots,
    call: _Call,
    wait_s: float,
) -> snapshots.Snapshot | None:
    """Return the job at its end or when the wait is over; None if it cannot be watched."""
    key = snapshots.JobKey(call.tenant, call.job_id)
    try:
        return await at_its_end(request, resources.watcher, loader, key, wait_s)
    except (TooManyStreams, errors.TooManyAtOnce):
        return None


@contextmanager
def _canceled_if_deleted(job_id: UUID) -> Iterator[None]:
    """Tell a client whose job or transcript is deleted meanwhile that the job was canceled."""
    try:
        yield
    except (errors.JobNotFound, errors.TranscriptDeleted) as error:
        raise JobCanceled("the job was deleted", str(job_id)) from error


async def _accept(
    resources: Resources, loader: snapshots.Snapshots, metrics: CallMetrics, call: _Call
) -> Response:
    """Answer with the job, which goes on without its client from now on."""
    await to_thread.run_sync(keep_call, resources.engine, call.tenant, call.job_id)
    snapshot = await loader.get(snapshots.JobKey(call.tenant, call.job_id))
    metrics.ended("accepted")
    return accepted(await answer_with_snapshot(resources, snapshot), call.job_id)


async def _answer(
    request: Request,
    resources: Resources,
    metrics: CallMetrics,
    call: _Call,
    snapshot: snapshots.Snapshot,
) -> Response:
    """Answer with the transcript.

    Raises:
        JobFailed: there is none.
    """
    view = snapshot.view
    if view.state != JobState.SUCCEEDED:
        _refuse(view)
    # Of a job that the call has joined, the accuracy is against another client's reference.
    accuracy = None if call.reference is None else view.accuracy
    if call.reference is not None and accuracy is None:
        heard = await to_thread.run_sync(get_text, resources.engine, call.tenant, view.id)
        measured = await compare(request, resources, call.tenant, view.id, call.reference, heard)
        accuracy = None if measured is None else dict(measured)
    hit = view.cached or call.joined
    gpu_bytes = None
    if not hit:
        gpu_bytes = await to_thread.run_sync(
            gpu_memory_bytes, resources.engine, call.tenant, view.id
        )
    found = snapshot.short_transcript
    if found is None:
        found = await to_thread.run_sync(open_transcript, resources.engine, call.tenant, view.id)
    latency_s = time.perf_counter() - call.began
    header: TranscriptHeader = found.header
    answer = Transcription(
        text="",
        latency_sec=round(latency_s, _LATENCY_DIGITS),
        cache_hit=hit,
        chunks_processed=view.chunks_done,
        wer=None if accuracy is None else accuracy["wer"],
        cer=None if accuracy is None else accuracy["cer"],
        cache_stats=metrics.succeeded(
            call.tenant,
            header.language,
            latency_s=latency_s,
            hit=hit,
            chunks=view.chunks_done,
            gpu_bytes=gpu_bytes,
        ),
        gpu_memory_used_mb=None if gpu_bytes is None else round(gpu_bytes / 1_000_000, 1),
        job_id=view.id,
        model=view.model,
        language=header.language,
        duration_s=header.duration_s,
        warnings=header.warnings,
    )
    return await to_thread.run_sync(_render, answer, found)


def _render(answer: Transcription, transcript: StoredTranscript) -> Response:
    """Write the answer with the text, which may be long and so is never whole in memory."""

    def parts() -> Iterator[str]:
        yield '{"text":"'
        yield from write_text(transcript.segments_without_words)
        yield '",'
        yield answer.model_dump_json(exclude={"text"}).removeprefix("{")

    return stream(in_blocks(parts()), "application/json")


def _refuse(view: JobView) -> NoReturn:
    """Raise what says why a job has no transcript."""
    job_id = str(view.id)
    if view.state == JobState.CANCELED:
        raise JobCanceled("the job was canceled", job_id)
    code, detail = view.error_code or "", view.error_detail or ""
    kind = AudioRefused if code in AUDIO_CODES | FETCH_CODES else JobFailed
    raise kind(detail, job_id, {"code": code, "detail": detail})
