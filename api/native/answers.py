"""A job as all answers tell it that are about a single one: with its transcript, if it has one."""

from collections.abc import Iterable, Iterator
from itertools import chain

from fastapi import Response
from fastapi.responses import StreamingResponse

from api.native.schemas.jobs import Job
from api.native.snapshots import Snapshot
from api.native.summaries import what_it_waits_for
from api.resources import Resources
from shared.infra.errors import TranscriptDeleted
from shared.speech.formats import in_blocks, write_json, write_text_json
from shared.store.jobs.read import JobView, get_job
from shared.store.states import JobState
from shared.store.transcripts import open_transcript


def answer_with_job(
    resources: Resources,
    tenant: str,
    view: JobView,
    *,
    status_code: int = 200,
    text: bool = True,
    words: bool = False,
) -> Response:
    """Return a ``Job`` as an answer: its transcript as the text alone, or ``words`` and all.

    Without ``text``, only what is to say of the transcript as a whole.

    Raises:
        JobNotFound: the job was deleted since it was read.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    stored = None
    if _has_transcript(view):
        try:
            stored = open_transcript(resources.engine, tenant, view.id)
        except TranscriptDeleted:  # since the job was read
            view = get_job(resources.engine, tenant, view.id)
    job = Job.of(view, what_it_waits_for(resources, view))
    if stored is None:
        return Response(job.model_dump_json(), status_code, media_type="application/json")
    if words:
        transcript = write_json(stored.header, stored.segments)
    elif text:
        transcript = write_text_json(stored.header, stored.segments_without_words)
    else:
        transcript = iter([stored.header.model_dump_json()])
    parts = _with_transcript(job, transcript)
    return stream(in_blocks(parts), "application/json", status_code=status_code)


def answer_at_once(snapshot: Snapshot) -> Response | None:
    """Return a ``Job`` with its transcript's text as an answer; None if that must be read yet."""
    view, short = snapshot.view, snapshot.short_transcript
    job = Job.of(view, snapshot.waiting)
    if short is not None:
        transcript = write_text_json(short.header, short.segments_without_words)
        return Response("".join(_with_transcript(job, transcript)), media_type="application/json")
    if _has_transcript(view):
        return None
    return Response(job.model_dump_json(), media_type="application/json")


def _has_transcript(view: JobView) -> bool:
    return view.state == JobState.SUCCEEDED and view.transcript_deleted_at is None


def _with_transcript(job: Job, transcript: Iterable[str]) -> Iterator[str]:
    """Yield the parts of a job's JSON, into which those of its transcript's are put."""
    yield job.model_dump_json(exclude={"transcript"}).removesuffix("}")
    yield ',"transcript":'
    yield from transcript
    yield "}"


def stream(blocks: Iterator[str], media_type: str, *, status_code: int = 200) -> Response:
    """Send the blocks as they are made.

    The first is made here and now: what goes wrong until then is still answered as a problem.
    """
    first = next(blocks, "")
    return StreamingResponse(chain([first], blocks), status_code, media_type=media_type)
