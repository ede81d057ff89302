"""Corrections of jobs' transcripts: a journal of operations on an untouched base.

An operation gives one segment another text, undoes the last one that is not undone, or redoes the
last one that is. Each is a revision, numbered from 1 for each job, and none is ever changed: what a
segment says is what its last revision left. A correction names the last revision that its author
has seen, and is refused if somebody else has changed the segment since.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import Connection, Engine, Row, text

from shared.infra.database import begin, read
from shared.infra.errors import (
    CorrectionConflict,
    JobNotFound,
    NothingToUndo,
    SegmentNotFound,
    TranscriptDeleted,
    TranscriptNotReady,
)
from shared.speech.transcript.corrections import correct
from shared.speech.transcript.edits import Editor, Edits
from shared.speech.transcript.transcript import Segment

Direction = Literal["undo", "redo"]


@dataclass(frozen=True, slots=True)
class Journal:
    """How far a job's corrections are."""

    revision: int
    """Of the last operation; 0: there is none."""
    undoable: int | None
    """The revision that an undo would reverse."""
    redoable: int | None
    """The undo that a redo would reverse."""


class JournalState(BaseModel):
    """How far a job's corrections are, on the wire."""

    revision: int = Field(description="of the last operation; 0: there is none")
    can_undo: bool
    can_redo: bool

    @classmethod
    def of(cls, journal: Journal) -> Self:
        """Return the wire form."""
        undoable, redoable = journal.undoable, journal.redoable
        return cls(
            revision=journal.revision,
            can_undo=undoable is not None,
            can_redo=redoable is not None,
        )


class Revised(JournalState):
    """A segment as an operation has left it."""

    segment_id: int
    segment: Segment | None = Field(description="null: its text is empty, so it is left out")


def correct_segment(
    engine: Engine, tenant: str, job_id: UUID, segment_id: int, written: str, *, seen: int | None
) -> Revised:
    """Give a segment another text; an empty one removes it. ``seen`` None: whatever was changed.

    Raises:
        JobNotFound: there is no such job for this tenant.
        TranscriptNotReady, TranscriptDeleted: it has no transcript.
        SegmentNotFound: the transcript has no such segment.
        CorrectionConflict: the segment was changed after the revision ``seen``.
    """
    with begin(engine, tenant) as connection:
        job = _lock(connection, tenant, job_id)
        base = _segment(connection, job, segment_id)
        last = connection.execute(
            text("""
                SELECT revision, after FROM corrections WHERE job_id = :id AND segment = :segment
                ORDER BY revision DESC LIMIT 1
            """),
            {"id": job_id, "segment": segment_id},
        ).one_or_none()
        before = base.text if last is None else last.after
        is_newer = last is not None and seen is not None and last.revision > seen
        if is_newer and before != written:
            journal = _journal(connection, job_id)
            raise _conflict(_revised(journal, base, before), before, written)
        _add(connection, job_id, segment_id, "correct", before, written)
        return _revised(_journal(connection, job_id), base, written)


def move(
    engine: Engine, tenant: str, job_id: UUID, where: Direction, *, seen: int | None
) -> Revised:
    """Undo the last correction that is not undone, or redo the last one that is.

    Raises:
        JobNotFound, TranscriptNotReady, TranscriptDeleted: as ``correct_segment``.
        CorrectionConflict: there are revisions after the one ``seen``.
        NothingToUndo: there is nothing to undo, or redo.
    """
    with begin(engine, tenant) as connection:
        job = _lock(connection, tenant, job_id)
        journal = _journal(connection, job_id)
        reversed_ = journal.undoable if where == "undo" else journal.redoable
        if reversed_ is None:
            raise NothingToUndo(f"there is no correction to {where}")
        if seen not in (None, journal.revision):
            last = _operation(connection, job_id, journal.revision)
            current = _revised(journal, _segment(connection, job, last.segment), last.after)
            raise _conflict(current, last.after, last.before)
        operation = _operation(connection, job_id, reversed_)
        base = _segment(connection, job, operation.segment)
        _add(connection, job_id, base.id, where, operation.after, operation.before)
        return _revised(_journal(connection, job_id), base, operation.before)


def journal_state(engine: Engine, tenant: str, job_id: UUID) -> JournalState:
    """Return how far a job's corrections are; an unknown job has none."""
    with read(engine, tenant) as connection:
        return JournalState.of(_journal(connection, job_id))


def corrected_texts(connection: Connection, job_id: UUID) -> dict[int, str]:
    """Return what corrected segments say, by their ids."""
    rows = connection.execute(
        text("""
            SELECT DISTINCT ON (segment) segment, after FROM corrections WHERE job_id = :id
            ORDER BY segment, revision DESC
        """),
        {"id": job_id},
    )
    return {row.segment: row.after for row in rows}


@dataclass(frozen=True, slots=True)
class _Job:
    id: UUID
    transcript_id: UUID
    edits: Edits


def _lock(connection: Connection, tenant: str, job_id: UUID) -> _Job:
    """Lock a job's row, so that its operations come one after the other."""
    row = connection.execute(
        text("""
            SELECT state, transcript_id, transcript_deleted_at, options -> 'edits' AS edits
            FROM jobs WHERE id = :id AND tenant = :tenant FOR NO KEY UPDATE
        """),
        {"id": job_id, "tenant": tenant},
    ).one_or_none()
    if row is None:
        raise JobNotFound(f"there is no job {job_id}")
    if row.transcript_deleted_at is not None:
        raise TranscriptDeleted("the transcript was removed: its time was up")
    if row.transcript_id is None:
        raise TranscriptNotReady(f"the job is {row.state}, so it has no transcript", row.state)
    return _Job(job_id, row.transcript_id, Edits.model_validate(row.edits or {}))


def _segment(connection: Connection, job: _Job, segment_id: int) -> Segment:
    """Return a segment with the job's edits, as it was before any correction."""
    document = connection.execute(
        text("SELECT document FROM transcript_segments WHERE transcript_id = :id AND idx = :idx"),
        {"id": job.transcript_id, "idx": segment_id},
    ).scalar_one_or_none()
    if document is None:
        raise SegmentNotFound(f"the transcript has no segment {segment_id}")
    return Editor(job.edits).edit(Segment.model_validate(document))[0]


def _operation(connection: Connection, job_id: UUID, revision: int) -> Row[Any]:
    return connection.execute(
        text("""
            SELECT segment, before, after FROM corrections
            WHERE job_id = :id AND revision = :revision
        """),
        {"id": job_id, "revision": revision},
    ).one()


def _add(
    connection: Connection, job_id: UUID, segment_id: int, kind: str, before: str, after: str
) -> None:
    connection.execute(
        text("""
            INSERT INTO corrections (job_id, revision, kind, segment, before, after)
            SELECT :id, coalesce(max(revision), 0) + 1, :kind, :segment, :before, :after
            FROM corrections WHERE job_id = :id
        """),
        {"id": job_id, "kind": kind, "segment": segment_id, "before": before, "after": after},
    )


def _journal(connection: Connection, job_id: UUID) -> Journal:
    rows = connection.execute(
        text("SELECT revision, kind FROM corrections WHERE job_id = :id ORDER BY revision"),
        {"id": job_id},
    )
    return _replay((row.revision, row.kind) for row in rows)


def _replay(operations: Iterable[tuple[int, str]]) -> Journal:
    done: list[int] = []
    undone: list[int] = []
    revision = 0
    for revision, kind in operations:
        if kind == "correct":
            undone.clear()
            done.append(revision)
        elif kind == "undo":
            done.pop()
            undone.append(revision)
        else:
            undone.pop()
            done.append(revision)
    return Journal(revision, done[-1] if done else None, undone[-1] if undone else None)


def _revised(journal: Journal, base: Segment, written: str) -> Revised:
    state = JournalState.of(journal).model_dump()
    return Revised(**state, segment_id=base.id, segment=correct(base, written))


def _conflict(current: Revised, theirs: str, yours: str) -> CorrectionConflict:
    return CorrectionConflict(
        "the transcript was corrected since",
        theirs=theirs,
        yours=yours,
        current=current.model_dump(mode="json"),
    )
