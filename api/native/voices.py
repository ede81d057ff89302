"""Voices: people whom later jobs recognize."""

from functools import partial

from anyio import to_thread
from fastapi import APIRouter, Request

from api.access.routes import needs
from api.intake.bodies import json_body, read_json
from api.native.ids import JobId, VoiceId
from api.native.schemas import members
from api.native.schemas.voices import NewVoice, Voice, VoiceList
from api.openapi import BODY_ERRORS, problems
from api.resources import Provided, Tenant
from shared.infra import errors
from shared.store import voices
from shared.store.accounts.scopes import Scope

router = APIRouter(tags=["jobs"])


@needs(Scope.JOBS_WRITE)
@router.post(
    "/jobs/{job_id}/voices",
    summary="Remember a speaker's voice",
    status_code=201,
    response_model=Voice,
    openapi_extra=json_body(NewVoice),
    responses=problems(
        *(*BODY_ERRORS, errors.JobNotFound, errors.SpeakerNotFound, errors.VoiceprintsNotKept),
        *(errors.VoiceTooShort, errors.TooManyVoices),
        *(errors.TranscriptNotReady, errors.TranscriptDeleted),
    ),
)
async def add_voice(job_id: JobId, request: Request, resources: Provided, tenant: Tenant) -> Voice:
    """Remember how a speaker of a job sounds that had `speakers={"identify": true}`.

    Later jobs with that option name whoever sounds like it. A voice is biometric
    data: have the person's consent. A name may have several voices.
    """
    new = await read_json(request, NewVoice)
    add = partial(voices.add_voice, resources.engine, tenant, job_id, **dict(new))
    return Voice(**members(await to_thread.run_sync(add)))


@needs(Scope.JOBS_READ)
@router.get("/voices", summary="List voices", responses=problems())
def show_voices(resources: Provided, tenant: Tenant) -> VoiceList:
    """List all voices."""
    found = voices.list_voices(resources.engine, tenant)
    return VoiceList.model_validate({"voices": found}, from_attributes=True)


@needs(Scope.JOBS_WRITE)
@router.delete(
    "/voices/{voice_id}",
    summary="Forget a voice",
    status_code=204,
    responses=problems(errors.VoiceNotFound),
)
def remove_voice(voice_id: VoiceId, resources: Provided, tenant: Tenant) -> None:
    """Forget a voice for good. Transcripts keep the names that it gave."""
    voices.delete_voice(resources.engine, tenant, voice_id)
