"""Search in a tenant's transcripts: the terms of each segment, kept for Postgres' full text search.

A lexeme is a tenant and a term. So the index has each tenant's terms apart, and neither a search
nor its time depends on what others have said.

Row-level security lets no index be used for ``@@``, which is not leakproof. The function
``longhand_search`` of the migrations bypasses it, and sees to the tenant itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from shared.infra.database import fetch, read
from shared.speech.transcript.corrections import correct
from shared.speech.transcript.edits import Editor, Edits
from shared.speech.transcript.search import (
    Match,
    Query,
    find_matches,
    fold,
    numbered,
    parse_query,
    terms_of,
)
from shared.speech.transcript.transcript import Segment

TENANT_MARK = "\1"
"""Stands for the tenant in ``segment_terms``; ``WITH_TENANT`` puts it there."""

WITH_TENANT = f"CAST(replace({{terms}}, chr({ord(TENANT_MARK)}), {{tenant}} || '/') AS tsvector)"
"""SQL for the terms of a segment of a tenant."""


def segment_terms(text: str) -> str:
    """Return a segment's terms as a tsvector is written, with ``TENANT_MARK`` for its tenant."""
    places = numbered(terms_of(fold(text)))
    return " ".join(
        f"'{TENANT_MARK}{term}':{','.join(map(str, numbers))}" for term, numbers in places.items()
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a hit is among all of a tenant: those of newer transcripts come first."""

    transcript_id: UUID
    idx: int
    """Of its segment."""


FIRST = Place(UUID(int=(1 << 128) - 1), 0)
"""Before all hits."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A segment that has all that was asked for."""

    place: Place
    job_id: UUID
    """The newest job that has the transcript."""
    source_name: str
    segment: Segment
    before: str | None
    """The text of the segment before it."""
    after: str | None
    matches: Sequence[Match]


def search(engine: Engine, tenant: str, asked: str, *, limit: int, after: Place) -> list[Hit]:
    """Return segments of a tenant's transcripts that have all that is asked for.

    ``asked`` are words, ``"phrases"`` and ``beginnings*``, as they were heard; hits have the edits
    and the corrections of their job. Newer transcripts come first, and the hits in one in the order
    of time; ``after`` continues after a hit.
    """
    query = parse_query(asked)
    if not query:
        return []
    with read(engine, tenant) as connection:
        rows = fetch(
            connection,
            _SEARCH,
            {
                "tenant": tenant,
                "wanted": _tsquery(tenant, query),
                "after_id": after.transcript_id,
                "after_idx": after.idx,
                "limit": limit,
            },
        )
    return [_hit(row, query) for row in rows]


def _hit(row: dict[str, Any], query: Query) -> Hit:
    editor = Editor(Edits.model_validate(row["edits"] or {}))

    def edited(document: Any) -> Segment:
        return editor.edit(Segment.model_validate(document))[0]

    def text_of(document: Any, correction: str | None) -> str | None:
        if document is None:
            return None
        return edited(document).text if correction is None else correction

    heard = edited(row["document"])
    correction = row["correction"]
    # A segment that a correction has emptied is still what was heard.
    segment = correct(heard, heard.text if correction is None else correction) or heard
    return Hit(
        place=Place(row["transcript_id"], row["idx"]),
        job_id=row["job_id"],
        source_name=row["source_name"],
        segment=segment,
        before=text_of(row["before"], row["correction_before"]),
        after=text_of(row["after"], row["correction_after"]),
        matches=find_matches(segment, query),
    )


def _tsquery(tenant: str, query: Query) -> str:
    return " & ".join(
        "("
        + " <-> ".join(f"'{tenant}/{term.text}'{':*' * term.is_prefix}" for term in phrase)
        + ")"
        for phrase in query
    )


_SEARCH = """
    SELECT hit.transcript_id, hit.idx, job.id AS job_id, job.source_name, job.edits, here.document,
           before.document AS before, after.document AS after,
           (SELECT corrections.after FROM corrections WHERE job_id = job.id AND segment = hit.idx
            ORDER BY revision DESC LIMIT 1) AS correction,
           (SELECT corrections.after FROM corrections
            WHERE job_id = job.id AND segment = hit.idx - 1
            ORDER BY revision DESC LIMIT 1) AS correction_before,
           (SELECT corrections.after FROM corrections
            WHERE job_id = job.id AND segment = hit.idx + 1
            ORDER BY revision DESC LIMIT 1) AS correction_after
    FROM longhand_search(
        CAST(%(wanted)s AS tsquery), %(after_id)s, %(after_idx)s, %(limit)s
    ) WITH ORDINALITY AS hit (transcript_id, idx, number)
    CROSS JOIN LATERAL (
        SELECT id, source_name, options -> 'edits' AS edits FROM jobs
        WHERE transcript_id = hit.transcript_id AND tenant = %(tenant)s
        ORDER BY first_event DESC LIMIT 1
    ) AS job
    JOIN transcript_segments AS here
      ON here.transcript_id = hit.transcript_id AND here.idx = hit.idx
    LEFT JOIN transcript_segments AS before
      ON before.transcript_id = hit.transcript_id AND before.idx = hit.idx - 1
    LEFT JOIN transcript_segments AS after
      ON after.transcript_id = hit.transcript_id AND after.idx = hit.idx + 1
    ORDER BY hit.number
"""
