"""Voices: what a tenant's people sound like, so that later jobs can name them.

A voice is biometric data. It is made at a client's wish alone, and deleted for good.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine, text
from uuid_utils.compat import uuid7

from shared.infra.database import begin, read
from shared.infra.errors import (
    SpeakerNotFound,
    TooManyVoices,
    VoiceNotFound,
    VoiceprintsNotKept,
    VoiceTooShort,
)
from shared.speech.speakers.recognition import mean_voice
from shared.speech.speakers.revision import Revision
from shared.speech.speakers.voiceprints import LEAST_SPEECH_S, KnownVoice, Voiceprints
from shared.store.transcripts import stored_header

MAX_VOICES = 1_000
"""Of a tenant: all are compared with each of a job's speakers."""


@dataclass(frozen=True, slots=True)
class VoiceView:
    """A voice, but for what it sounds like."""

    id: UUID
    name: str
    model: str
    revision: str
    created_at: datetime


def add_voice(engine: Engine, tenant: str, job_id: UUID, *, speaker: int, name: str) -> VoiceView:
    """Remember how a speaker of a job sounds, with all who were merged into them.

    Raises:
        SpeakerNotFound: the job has no such speaker.
        VoiceprintsNotKept: the job was not asked to identify its speakers.
        VoiceTooShort: the speaker talks for less than ``LEAST_SPEECH_S``.
        TooManyVoices: the tenant has ``MAX_VOICES`` already.
        JobNotFound, TranscriptNotReady, TranscriptDeleted: there is no transcript.
    """
    with begin(engine, tenant) as connection:
        prints, voiceprint = _voice_of(connection, tenant, job_id, speaker)
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended('voices:' || :tenant, 0))"),
            {"tenant": tenant},
        )
        n_voices = connection.execute(
            text("SELECT count(*) FROM voices WHERE tenant = :tenant"), {"tenant": tenant}
        ).scalar_one()
        if n_voices >= MAX_VOICES:
            raise TooManyVoices(f"there are {MAX_VOICES} voices already, which is the limit")
        row = connection.execute(
            text("""
                INSERT INTO voices (id, tenant, name, model, revision, voiceprint)
                VALUES (:id, :tenant, :name, :model, :revision, :voiceprint)
                RETURNING id, name, model, revision, created_at
            """),
            {
                "id": uuid7(),
                "tenant": tenant,
                "name": name,
                "model": prints.model,
                "revision": prints.revision,
                "voiceprint": voiceprint,
            },
        ).mappings()
        return VoiceView(**row.one())


def _voice_of(
    connection: Connection, tenant: str, job_id: UUID, speaker: int
) -> tuple[Voiceprints, str]:
    row = connection.execute(
        text("""
            SELECT jobs.state, jobs.transcript_deleted_at, jobs.speakers, transcripts.header,
                   transcripts.voiceprints
            FROM jobs LEFT JOIN transcripts ON transcripts.id = jobs.transcript_id
            WHERE jobs.id = :id AND jobs.tenant = :tenant
        """),
        {"id": job_id, "tenant": tenant},
    ).one_or_none()
    header = stored_header(job_id, row)
    assert row is not None, "it has a header"
    merged = Revision.model_validate(row.speakers or {}).merged
    heard = {each.id: each.speech_s for each in header.speakers or ()}
    if speaker not in heard or speaker in merged:
        raise SpeakerNotFound(f"the job has no speaker {speaker}")
    if row.voiceprints is None:
        raise VoiceprintsNotKept(
            'the job keeps no voices: ask for them by its option speakers={"identify": true}'
        )
    alike = [(each, heard[each]) for each in heard if merged.get(each, each) == speaker]
    if sum(seconds for _, seconds in alike) < LEAST_SPEECH_S:
        raise VoiceTooShort(f"the speaker talks for less than {LEAST_SPEECH_S:g} s")
    prints = Voiceprints.model_validate(row.voiceprints)
    return prints, mean_voice(prints, alike)


def list_voices(engine: Engine, tenant: str) -> list[VoiceView]:
    """Return a tenant's voices, the oldest first."""
    with read(engine, tenant) as connection:
        rows = connection.execute(
            text("""
                SELECT id, name, model, revision, created_at FROM voices
                WHERE tenant = :tenant ORDER BY id
            """),
            {"tenant": tenant},
        ).mappings()
        return [VoiceView(**row) for row in rows]


def delete_voice(engine: Engine, tenant: str, voice_id: UUID) -> None:
    """Delete a voice for good; transcripts keep the names that it gave.

    Raises:
        VoiceNotFound: there is none of that id, or it is another tenant's.
    """
    with begin(engine, tenant) as connection:
        deleted = connection.execute(
            text("DELETE FROM voices WHERE id = :id AND tenant = :tenant RETURNING id"),
            {"id": voice_id, "tenant": tenant},
        ).one_or_none()
    if deleted is None:
        raise VoiceNotFound(f"there is no voice {voice_id}")


def known_voices(engine: Engine, job_id: UUID, model: str, revision: str) -> list[KnownVoice]:
    """Return the voices of a job's tenant that a model's can be compared with, the oldest first."""
    with read(engine) as connection:
        rows = connection.execute(
            text("""
                SELECT voices.id, voices.name, voiceprint
                FROM voices JOIN jobs USING (tenant)
                WHERE jobs.id = :job_id AND voices.model = :model
                  AND voices.revision = :revision
                ORDER BY voices.id
            """),
            {"job_id": job_id, "model": model, "revision": revision},
        ).mappings()
        return [KnownVoice(**row) for row in rows]
