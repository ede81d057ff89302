"""The speakers of a job: who they are, and which of them are one person."""

from functools import partial

from anyio import to_thread
from fastapi import APIRouter, Request

from api.access.routes import needs
from api.intake.bodies import json_body, read_json
from api.native.ids import JobId
from api.native.schemas.speakers import JobSpeaker, JobSpeakers, SpeakerChanges
from api.openapi import BODY_ERRORS, problems
from api.resources import Provided, Tenant
from shared.infra.errors import (
    ConflictingOptions,
    JobNotFound,
    SpeakerNotFound,
    TranscriptDeleted,
    TranscriptNotReady,
)
from shared.store.accounts.scopes import Scope
from shared.store.jobs.speakers import SpeakersView, get_speakers, revise_speakers

router = APIRouter(tags=["jobs"])


@needs(Scope.JOBS_READ)
@router.get(
    "/jobs/{job_id}/speakers",
    summary="See who speaks",
    responses=problems(JobNotFound, TranscriptNotReady, TranscriptDeleted),
)
def show_speakers(job_id: JobId, resources: Provided, tenant: Tenant) -> JobSpeakers:
    """Return the speakers that a job's recording was found to have, with their names."""
    return _answer(get_speakers(resources.engine, tenant, job_id))


@needs(Scope.JOBS_WRITE)
@router.patch(
    "/jobs/{job_id}/speakers",
    summary="Name or merge speakers",
    response_model=JobSpeakers,
    openapi_extra=json_body(SpeakerChanges),
    responses=problems(
        *(*BODY_ERRORS, JobNotFound, SpeakerNotFound, ConflictingOptions),
        *(TranscriptNotReady, TranscriptDeleted),
    ),
)
async def change_speakers(
    job_id: JobId, request: Request, resources: Provided, tenant: Tenant
) -> JobSpeakers:
    """Name speakers, and merge those who are one person.

    All of the body's changes make one revision, in the transcript in every format; the words stay
    as they are. A merge is undone with `"merged_into": null`.
    """
    asked = await read_json(request, SpeakerChanges)
    changes = [each.model_dump(exclude_unset=True) for each in asked.speakers]
    revise = partial(revise_speakers, resources.engine, tenant, job_id, changes)
    return _answer(await to_thread.run_sync(revise))


def _answer(view: SpeakersView) -> JobSpeakers:
    revision = view.revision
    if view.found is None:
        return JobSpeakers(revision=revision.number, speakers=None)
    speakers = [
        JobSpeaker(
            id=each.id,
            name=revision.names.get(each.id, each.name),
            speech_s=each.speech_s,
            merged_into=revision.merged.get(each.id),
            recognized=each.recognized,
        )
        for each in view.found
    ]
    return JobSpeakers(revision=revision.number, speakers=speakers)
