"""The speakers of jobs: those of the transcript, and what the job's owner says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin, read
from shared.infra.errors import ConflictingOptions, SpeakerNotFound
from shared.speech.speakers.revision import Revision
from shared.speech.transcript.transcript import Speaker
from shared.store.transcripts import stored_header


@dataclass(frozen=True, slots=True)
class SpeakersView:
    """The speakers of a job."""

    found: Sequence[Speaker] | None
    """As they were diarized; None: they were not."""
    revision: Revision


def get_speakers(engine: Engine, tenant: str, job_id: UUID) -> SpeakersView:
    """Return a job's speakers.

    Raises:
        JobNotFound: there is no such job for this tenant.
        TranscriptNotReady: the job has no transcript (yet).
        TranscriptDeleted: it was removed.
    """
    with read(engine, tenant) as connection:
        return _read(connection, tenant, job_id, lock=False)


def revise_speakers(
    engine: Engine, tenant: str, job_id: UUID, changes: Sequence[Mapping[str, Any]]
) -> SpeakersView:
    """Name and merge speakers: one more revision.

    A change has the speaker's ``id`` and perhaps a ``name`` and ``merged_into``. Who is merged into
    a speaker that is merged itself follows it.

    Raises:
        SpeakerNotFound: a change names a speaker who is not there.
        ConflictingOptions: two speakers would be merged into each other.
        JobNotFound, TranscriptNotReady, TranscriptDeleted: as ``get_speakers``.
    """
    with begin(engine, tenant) as connection:
        view = _read(connection, tenant, job_id, lock=True)
        revision = _revised(view, changes)
        connection.execute(
            text("UPDATE jobs SET speakers = :speakers WHERE id = :id"),
            {"id": job_id, "speakers": Jsonb(revision.model_dump(mode="json"))},
        )
    return SpeakersView(view.found, revision)


def _read(connection: Connection, tenant: str, job_id: UUID, *, lock: bool) -> SpeakersView:
    row = connection.execute(
        text(f"""
            SELECT jobs.state, jobs.transcript_deleted_at, jobs.speakers, transcripts.header
            FROM jobs LEFT JOIN transcripts ON transcripts.id = jobs.transcript_id
            WHERE jobs.id = :id AND jobs.tenant = :tenant
            {"FOR NO KEY UPDATE OF jobs" if lock else ""}
        """),  # noqa: S608 - the variable part is a constant
        {"id": job_id, "tenant": tenant},
    ).one_or_none()
    header = stored_header(job_id, row)
    assert row is not None, "it has a header"
    return SpeakersView(header.speakers, Revision.model_validate(row.speakers or {}))


def _revised(view: SpeakersView, changes: Sequence[Mapping[str, Any]]) -> Revision:
    known = {each.id for each in view.found or ()}
    names, merged = dict(view.revision.names), dict(view.revision.merged)
    for change in changes:
        speaker = change["id"]
        for each in (speaker, change.get("merged_into")):
            if each is not None and each not in known:
                raise SpeakerNotFound(f"the job has no speaker {each}")
        if "name" in change:
            names.pop(speaker, None)
            if change["name"] is not None:
                names[speaker] = change["name"]
        if "merged_into" in change:
            merged.pop(speaker, None)
            if change["merged_into"] is not None:
                merged[speaker] = change["merged_into"]
    return Revision(
        number=view.revision.number + 1,
        names=names,
        merged={speaker: _end_of(speaker, merged) for speaker in merged},
    )


def _end_of(speaker: int, merged: Mapping[int, int]) -> int:
    """Return whom a speaker is merged into in the end."""
    end = merged[speaker]
    for _ in merged:
        end = merged.get(end, end)
    if end in merged:
        raise ConflictingOptions(f"speaker {speaker} would be merged into itself")
    return end
