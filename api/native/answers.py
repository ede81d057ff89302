"""Jobs in answers: in lists without transcripts, single ones with theirs if they have one."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from uuid import UUID

from anyio import to_thread
from fastapi import Response
from fastapi.responses import StreamingResponse

from api.native.schemas.jobs import Job, JobSummary
from api.native.snapshots import Snapshot
from api.resources import Resources
from shared.infra.errors import TranscriptDeleted
from shared.speech.files.formats import in_blocks, write_json, write_text_json
from shared.store.jobs.read import JobView, get_job
from shared.store.jobs.waits import Waiting, find_waits
from shared.store.states import JobState
from shared.store.transcripts import open_transcript


def summarize_jobs(resources: Resources, views: Sequence[JobView]) -> list[JobSummary]:
    """Return the wire form of jobs.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    waits = _find_waits(resources, views)
    return [JobSummary.of(view, waits.get(view.id)) for view in views]


def answer_with_job(
    resources: Resources,
    tenant: str,
    view: JobView,
    *,
    text: bool = True,
    words: bool = False,
) -> Response:
    """Return a ``Job`` as an answer, with the text of its transcript.

    With ``words`` it has the whole transcript, without ``text`` the transcript's header only.

    Raises:
        JobNotFound: the job was deleted since it was read.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    try:
        return _answer_with_job(resources, tenant, view, text=text, words=words)
    except TranscriptDeleted:  # alone or with the job, since that was read
        view = get_job(resources.engine, tenant, view.id)
        return _answer_with_job(resources, tenant, view, text=text, words=words)


def _answer_with_job(
    resources: Resources, tenant: str, view: JobView, *, text: bool, words: bool
) -> Response:
    stored = None
    if _has_transcript(view):
        stored = open_transcript(resources.engine, tenant, view.id)
    job = Job.of(view, _find_waits(resources, [view]).get(view.id))
    if stored is None:
        return Response(job.model_dump_json(), media_type="application/json")
    if words:
        transcript = write_json(stored.header, stored.segments, stored.segments_without_words)
    elif text:
        transcript = write_text_json(stored.header, stored.segments_without_words)
    else:
        transcript = iter([stored.header.model_dump_json()])
    parts = _with_transcript(job, transcript)
    return stream(in_blocks(parts), "application/json")


async def answer_with_snapshot(
    resources: Resources, snapshot: Snapshot, *, text: bool = True, words: bool = False
) -> Response:
    """Return what ``answer_with_job`` does, without another read if the snapshot has all of it."""
    answer = _answer_at_once(snapshot) if text and not words else None
    if answer is None:
        view = snapshot.view
        answer = await to_thread.run_sync(
            partial(answer_with_job, resources, view.tenant, view, text=text, words=words)
        )
    return answer


def accepted(answer: Response, job_id: UUID) -> Response:
    """Return an answer with a ``Job``, with the status 202 and the job's ``Location``."""
    answer.status_code = 202
    answer.headers["Location"] = f"/jobs/{job_id}"
    return answer


def _answer_at_once(snapshot: Snapshot) -> Response | None:
    view, short = snapshot.view, snapshot.short_transcript
    job = Job.of(view, snapshot.waiting)
    if short is not None:
        transcript = write_text_json(short.header, short.segments_without_words)
        return Response("".join(_with_transcript(job, transcript)), media_type="application/json")
    if _has_transcript(view):
        return None
    return Response(job.model_dump_json(), media_type="application/json")


def _find_waits(resources: Resources, views: Sequence[JobView]) -> dict[UUID, Waiting]:
    """Return what jobs wait for other than their turn, by their ids."""
    active = [view.id for view in views if not view.ended]
    return find_waits(resources.engine, active, live_s=resources.settings.live_s)


def _has_transcript(view: JobView) -> bool:
    return view.state == JobState.SUCCEEDED and view.transcript_deleted_at is None


def _with_transcript(job: Job, transcript: Iterable[str]) -> Iterator[str]:
    """Yield the parts of a job's JSON, with those of its transcript inside."""
    yield job.model_dump_json(exclude={"transcript"}).removesuffix("}")
    yield ',"transcript":'
    yield from transcript
    yield "}"


def stream(blocks: Iterator[str] | Iterator[bytes], media_type: str) -> Response:
    """Send the blocks as they are made.

    The first block is made here, so that errors up to then are answered as problems.
    """
    first = next(blocks, "")
    return StreamingResponse(chain([first], blocks), media_type=media_type)
