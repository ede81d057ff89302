"""What was changed in a transcript: by the edits that its job asks for, and by corrections."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from api.access.routes import needs
from api.intake.bodies import json_body, read_json
from api.native.answers import stream
from api.native.ids import JobId
from api.native.schemas.transcripts import Changes
from api.openapi import BODY_ERRORS, problems
from api.resources import Provided, Tenant
from api.validation import whole
from shared.infra.errors import (
    CorrectionConflict,
    JobNotFound,
    NothingToUndo,
    SegmentNotFound,
    TranscriptDeleted,
    TranscriptNotReady,
)
from shared.speech.files.formats import in_blocks
from shared.speech.transcript.corrections import MAX_CHARS
from shared.store.accounts.scopes import Scope
from shared.store.corrections import Revised, correct_segment, journal_state, move
from shared.store.transcripts import open_transcript

router = APIRouter(tags=["jobs"])

MAX_ID = 2**31 - 1

Seen = Annotated[
    str,
    Header(
        alias="If-Match",
        pattern=r'^(\*|"[0-9]{1,9}")$',
        description='the last revision that the author has seen, in quotation marks: "0"; '
        "*: whichever there is",
        openapi_examples={"any": {"value": "*"}},
    ),
]
_GONE = (JobNotFound, TranscriptNotReady, TranscriptDeleted)


class NewCorrection(BaseModel):
    """A correction of a segment."""

    model_config = ConfigDict(extra="forbid")

    segment: Annotated[int, BeforeValidator(whole)] = Field(
        ge=0, le=MAX_ID, examples=[0], description="its id in the transcript"
    )
    text: str = Field(
        max_length=MAX_CHARS,
        pattern=r"^[^\x00]*$",
        examples=["What was really said."],
        description="what it says; white space is a space. Empty: the segment is left out",
    )


@needs(Scope.JOBS_READ)
@router.get(
    "/jobs/{job_id}/changes",
    summary="See what was changed in a transcript",
    response_model=Changes,
    responses=problems(*_GONE),
)
def show_changes(job_id: JobId, resources: Provided, tenant: Tenant) -> Response:
    """Return what `numerals`, `mask`, `spelling` and corrections changed, in order.

    The transcript with `original=true` has none of it. `revision` is what a correction names in its
    `If-Match`.
    """
    # The journal first: changes that are newer than the revision told do no harm.
    state = journal_state(resources.engine, tenant, job_id)
    found = open_transcript(resources.engine, tenant, job_id)

    def parts() -> Iterator[str]:
        yield state.model_dump_json().removesuffix("}") + ',"changes":['
        for number, change in enumerate(found.changes):
            yield ("," if number else "") + change.model_dump_json()
        yield "]}"

    return stream(in_blocks(parts()), "application/json")


@needs(Scope.JOBS_WRITE)
@router.post(
    "/jobs/{job_id}/changes",
    summary="Correct a segment",
    openapi_extra=json_body(NewCorrection),
    responses=problems(*_GONE, *BODY_ERRORS, SegmentNotFound, CorrectionConflict),
)
async def correct_transcript(
    job_id: JobId, request: Request, seen: Seen, resources: Provided, tenant: Tenant
) -> Revised:
    """Give a segment another text, which every format has from then on.

    Words that stay keep their times; those in place of others share the time of these. The
    transcript as it was heard stays: `original=true` shows it, and error rates are measured on it.

    If the segment was corrected after the revision in `If-Match`, the answer is a 409 with both
    texts, `theirs` and `yours`.
    """
    new = await read_json(request, NewCorrection)
    written = " ".join(new.text.split())
    return await to_thread.run_sync(
        partial(
            correct_segment,
            *(resources.engine, tenant, job_id, new.segment, written),
            seen=_number(seen),
        )
    )


@needs(Scope.JOBS_WRITE)
@router.post(
    "/jobs/{job_id}/changes/undo",
    summary="Undo the last correction",
    responses=problems(*_GONE, CorrectionConflict, NothingToUndo),
)
def undo_correction(job_id: JobId, seen: Seen, resources: Provided, tenant: Tenant) -> Revised:
    """Undo the last correction that is not undone. An undo is a revision of its own."""
    return move(resources.engine, tenant, job_id, "undo", seen=_number(seen))


@needs(Scope.JOBS_WRITE)
@router.post(
    "/jobs/{job_id}/changes/redo",
    summary="Redo the last undone correction",
    responses=problems(*_GONE, CorrectionConflict, NothingToUndo),
)
def redo_correction(job_id: JobId, seen: Seen, resources: Provided, tenant: Tenant) -> Revised:
    """Redo the last correction that was undone, unless another was made since."""
    return move(resources.engine, tenant, job_id, "redo", seen=_number(seen))


def _number(seen: str) -> int | None:
    return None if seen == "*" else int(seen.strip('"'))
