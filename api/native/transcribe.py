"""``POST /transcribe``: a file in, its transcript out, in one request."""

from collections.abc import Iterator
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from api.access.routes import needs
from api.native import snapshots
from api.native.accuracy import compare
from api.native.answers import accepted, answer_with_snapshot, stream
from api.native.call import (
    Call,
    called,
    canceled_if_deleted,
    check_succeeded,
    counted,
    end_of,
    transcript_of,
)
from api.native.call_metrics import CallMetrics
from api.native.lifecycle import SUBMISSION_PROBLEMS
from api.native.schemas.calls import Transcription
from api.native.schemas.jobs import Job
from api.native.ways_in import source_of
from api.openapi import job_body, located, problems
from api.resources import Provided, Resources, Tenant, from_state
from shared.infra import errors
from shared.infra.errors import TooManyStreams
from shared.speech.files.formats import in_blocks, write_text
from shared.speech.transcript.transcript import TranscriptHeader
from shared.store.accounts.scopes import Scope
from shared.store.jobs.accuracy import get_text
from shared.store.jobs.calls import keep_call
from shared.store.transcripts import StoredTranscript

router = APIRouter(tags=["jobs"])

_LATENCY_DIGITS = 3


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
    limit_s = resources.settings.call_wait_s
    wait_s = limit_s if wait is None else min(wait, limit_s)
    with counted(metrics):
        async with (
            source_of(request, resources, tenant) as source,
            called(request, resources, tenant, source) as call,
        ):
            snapshot = await _wait(request, resources, loader, call, wait_s)
            if snapshot is None or not snapshot.view.ended:
                return await _accept(resources, loader, metrics, call)
        with canceled_if_deleted(call.job_id):
            return await _answer(request, resources, metrics, call, snapshot)


async def _wait(
    request: Request,
    resources: Resources,
    loader: snapshots.Snapshots,
    call: Call,
    wait_s: float,
) -> snapshots.Snapshot | None:
    """Return the job at its end or when the wait is over; None if it cannot be watched."""
    try:
        return await end_of(call, request, resources, loader, wait_s)
    except (TooManyStreams, errors.TooManyAtOnce):
        return None


async def _accept(
    resources: Resources, loader: snapshots.Snapshots, metrics: CallMetrics, call: Call
) -> Response:
    """Answer with the job, which goes on without its client from now on."""
    await to_thread.run_sync(keep_call, resources.engine, call.tenant, call.job_id)
    snapshot = await loader.get(call.key)
    metrics.ended("accepted")
    return accepted(await answer_with_snapshot(resources, snapshot), call.job_id)


async def _answer(
    request: Request,
    resources: Resources,
    metrics: CallMetrics,
    call: Call,
    snapshot: snapshots.Snapshot,
) -> Response:
    """Answer with the transcript.

    Raises:
        JobFailed: there is none.
    """
    view, reference = snapshot.view, call.asked.reference
    check_succeeded(view)
    # Of a job that the call has joined, the accuracy is against another client's reference.
    accuracy = None if reference is None else view.accuracy
    if reference is not None and accuracy is None:
        heard = await to_thread.run_sync(get_text, resources.engine, call.tenant, view.id)
        measured = await compare(request, resources, call.tenant, view.id, reference, heard)
        accuracy = None if measured is None else dict(measured)
    answered = await transcript_of(call, snapshot, resources, metrics)
    header: TranscriptHeader = answered.transcript.header
    gpu_bytes = answered.gpu_bytes
    answer = Transcription(
        text="",
        latency_sec=round(answered.latency_s, _LATENCY_DIGITS),
        cache_hit=answered.hit,
        chunks_processed=view.chunks_done,
        wer=None if accuracy is None else accuracy["wer"],
        cer=None if accuracy is None else accuracy["cer"],
        cache_stats=answered.cache_use,
        gpu_memory_used_mb=None if gpu_bytes is None else round(gpu_bytes / 1_000_000, 1),
        job_id=view.id,
        model=view.model,
        language=header.language,
        duration_s=header.duration_s,
        warnings=header.warnings,
    )
    return await to_thread.run_sync(_render, answer, answered.transcript)


def _render(answer: Transcription, transcript: StoredTranscript) -> Response:
    """Write the answer with the text, which may be long and so is never whole in memory."""

    def parts() -> Iterator[str]:
        yield '{"text":"'
        yield from write_text(transcript.segments_without_words)
        yield '",'
        yield answer.model_dump_json(exclude={"text"}).removeprefix("{")

    return stream(in_blocks(parts()), "application/json")
