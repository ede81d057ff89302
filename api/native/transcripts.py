"""A job's transcript alone, in the format that the query or the ``Accept`` header names."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.access.routes import needs, shared
from api.native.answers import stream
from api.native.ids import JobId
from api.negotiation import choose_media_type, has_current
from api.openapi import problems, transcript_answer
from api.resources import Provided, Tenant
from shared import __version__
from shared.infra.errors import (
    ConflictingOptions,
    JobNotFound,
    NotAcceptable,
    TranscriptDeleted,
    TranscriptNotReady,
    UnknownFormat,
)
from shared.speech.files.cues import (
    CUE_LINES,
    FULL_WIDTH_LINE_COLUMNS,
    LINE_COLUMNS,
    MAX_CUE_LINES,
    MAX_CUE_WORDS,
    MAX_LINE_COLUMNS,
    MIN_LINE_COLUMNS,
)
from shared.speech.files.formats import MEDIA_TYPES, render
from shared.speech.names import FORMATS, SUBTITLES
from shared.store.accounts.scopes import Scope
from shared.store.transcripts import (
    PartialView,
    StoredTranscript,
    open_partial_transcript,
    open_transcript,
)

router = APIRouter(tags=["jobs"])

_DEFAULT = "json"
_FORMAT_OF = {MEDIA_TYPES[name].partition(";")[0]: name for name in (_DEFAULT, *FORMATS)}
"""Formats by media type, the default first."""


@needs(Scope.JOBS_READ)
@shared
@router.get(
    "/jobs/{job_id}/transcript",
    summary="Get a transcript",
    response_class=Response,
    responses=problems(
        *(JobNotFound, TranscriptNotReady, TranscriptDeleted),
        *(UnknownFormat, ConflictingOptions, NotAcceptable),
    )
    | transcript_answer(),
)
def show_transcript(
    job_id: JobId,
    request: Request,
    resources: Provided,
    tenant: Tenant,
    format: Annotated[  # noqa: A002 - the query parameter's name
        str | None,
        Query(
            description="of the answer, one a request; omitted: what the Accept header likes best, "
            f"{_DEFAULT} if that takes anything",
            json_schema_extra={"enum": list(FORMATS)},
        ),
    ] = None,
    so_far: Annotated[
        bool,
        Query(
            alias="partial",
            description="true: of a job in any other state, what is transcribed so far",
        ),
    ] = False,
    original: Annotated[
        bool,
        Query(description="true: as it was heard, without edits and corrections"),
    ] = False,
    max_line_width: Annotated[
        int | None,
        Query(
            ge=MIN_LINE_COLUMNS,
            le=MAX_LINE_COLUMNS,
            description=f"columns of a subtitle's line, of which a full-width character takes two; "
            f"omitted: {FULL_WIDTH_LINE_COLUMNS} in Chinese, Japanese and Korean, else "
            f"{LINE_COLUMNS}",
        ),
    ] = None,
    max_line_count: Annotated[
        int | None,
        Query(ge=1, le=MAX_CUE_LINES, description=f"lines of a subtitle; omitted: {CUE_LINES}"),
    ] = None,
    max_words_per_cue: Annotated[
        int | None,
        Query(
            ge=1,
            le=MAX_CUE_WORDS,
            description="words of a subtitle; omitted: as many as fit into its lines",
        ),
    ] = None,
) -> Response:
    """Return the transcript alone, in any format.

    Plain text has a paragraph a line, tab-separated values have a segment a line. JSON has text,
    paragraphs, segments and words. A Word document (docx) has a paragraph below each time.

    A transcript changes only when it is corrected, or its speakers are named or merged, and its
    `ETag` tells a client that it has this one already: a request with that in `If-None-Match` is
    answered with 304.

    With `partial=true`, a job that runs or has failed gives what its finished chunks say, in time
    order; as JSON it says `"partial": true` and what is missing.
    """
    chosen = _choose_format(format, ",".join(request.headers.getlist("accept")))
    sizes = (max_line_width, max_line_count, max_words_per_cue)
    if chosen not in SUBTITLES and any(sizes):
        raise ConflictingOptions(
            "max_line_width, max_line_count and max_words_per_cue are for subtitles: "
            f"{', '.join(SUBTITLES)}"
        )
    found: StoredTranscript | PartialView
    headers = {"Vary": "Accept"}
    try:
        found = open_transcript(resources.engine, tenant, job_id, original=original)
        headers |= {
            "ETag": _entity_tag(found, original, chosen, *sizes),
            "Cache-Control": "private, no-cache",
        }
        if has_current(",".join(request.headers.getlist("if-none-match")), headers["ETag"]):
            return Response(status_code=304, headers=headers)
    except TranscriptNotReady:
        if not so_far:
            raise
        found = open_partial_transcript(resources.engine, tenant, job_id, original=original)
    rendered = render(
        found.header,
        found.segments,
        chosen,
        without_words=found.segments_without_words,
        line_columns=max_line_width,
        max_lines=max_line_count or CUE_LINES,
        max_words=max_words_per_cue,
    )
    answer = stream(rendered.blocks, rendered.media_type)
    answer.headers.update(headers)
    return answer


def _choose_format(named: str | None, accept: str) -> str:
    """Return the format that the query names, or else the one that the client likes best."""
    if named is not None:
        if named not in FORMATS:
            raise UnknownFormat(
                f"no format {named!r}; there are {', '.join(FORMATS)}, of which a request names one"
            )
        return named
    chosen = choose_media_type(accept, list(_FORMAT_OF))
    if chosen is None:
        raise NotAcceptable(
            "Accept names nothing that a transcript can be", offered=list(_FORMAT_OF)
        )
    return _FORMAT_OF[chosen]


def _entity_tag(transcript: StoredTranscript, *rendering: object) -> str:
    """Return the strong ETag of a transcript as this version writes it."""
    edits = transcript.edits and transcript.edits.model_dump_json()
    revisions = transcript.revision, transcript.speakers_revision
    facts = "\n".join(map(str, (__version__, transcript.id, edits, *revisions, *rendering)))
    return f'"{hashlib.sha256(facts.encode()).hexdigest()[:32]}"'
