"""Transcripts read: whole ones, and partial ones of unfinished jobs."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import Connection, Engine, Row, RowMapping, text

from shared.infra.database import fetch, read
from shared.infra.errors import JobNotFound, TranscriptDeleted, TranscriptNotReady
from shared.models.options import ResolvedOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.timemap import time_of
from shared.speech.speakers.revision import Revision
from shared.speech.transcript.edits import Change, EditedSegments, Edits
from shared.speech.transcript.stitching import Stitcher, make_warnings, survey, to_seconds
from shared.speech.transcript.transcript import (
    MAX_MISSING,
    MissingSpan,
    PartialHeader,
    Segment,
    TranscriptHeader,
    TranscriptWarning,
)
from shared.store.chunks import as_heard, finished_chunks, finished_chunks_without_words
from shared.store.corrections import corrected_texts

_SEGMENTS_PER_PAGE = 100
"""Rows per query: some hundred kilobytes of words."""

_WITHOUT_WORDS = """(document - 'decoding') || '{"words": []}'"""
"""SQL: a segment's ``document`` without its words and their tokens."""


@dataclass(frozen=True, slots=True)
class StoredTranscript:
    """A transcript. Each iteration over its segments reads them anew, page by page."""

    id: UUID
    """Of the job that made it; equal jobs share one."""
    header: TranscriptHeader
    segments: Iterable[Segment]
    segments_without_words: Iterable[Segment]
    """The same, perhaps with no words: enough for the text."""
    edits: Edits | None = None
    """Those that the job asks for, of which its segments have none if it was read so."""
    changes: Iterable[Change] = ()
    """What edits and corrections change. Each iteration reads the segments anew."""
    revision: int = 0
    """Of its last correction."""
    speakers_revision: int = 0
    """How often its job's speakers were named or merged."""


def open_transcript(
    engine: Engine, tenant: str, job_id: UUID, *, original: bool = False
) -> StoredTranscript:
    """Return the transcript of a job that succeeded.

    With ``original`` it is as it was heard, without edits and corrections.

    Raises:
        JobNotFound: there is no such job for this tenant.
        TranscriptNotReady: the job is in another state, which the message names.
        TranscriptDeleted: it was removed; also while segments are read.
    """
    with read(engine, tenant) as connection:
        row = connection.execute(
            text("""
                SELECT jobs.state, jobs.transcript_id, transcript_deleted_at, transcripts.header,
                       jobs.options -> 'edits' AS edits, jobs.speakers,
                       (SELECT max(revision) FROM corrections WHERE job_id = jobs.id) AS revision
                FROM jobs LEFT JOIN transcripts ON transcripts.id = jobs.transcript_id
                WHERE jobs.id = :id AND jobs.tenant = :tenant
            """),
            {"id": job_id, "tenant": tenant},
        ).one_or_none()
        corrections = (
            {} if row is None or row.revision is None else corrected_texts(connection, job_id)
        )
    stored = stored_header(job_id, row)
    assert row is not None, "it has a header"
    speakers = Revision.model_validate(row.speakers or {})
    header = speakers.header(stored)
    segments = speakers.segments(_StoredSegments(engine, tenant, row.transcript_id, "document"))
    edits = None if row.edits is None else Edits.model_validate(row.edits)
    if edits is not None or corrections:
        edited = EditedSegments(segments, edits or Edits(), corrections)
        shown = segments if original else edited
        return StoredTranscript(
            row.transcript_id,
            header,
            shown,
            shown,
            edits,
            edited.changes(),
            row.revision or 0,
            speakers.number,
        )
    without_words = _StoredSegments(
        engine, tenant, row.transcript_id, f"{_WITHOUT_WORDS} AS document"
    )
    return StoredTranscript(
        row.transcript_id,
        header,
        segments,
        speakers.segments(without_words),
        speakers_revision=speakers.number,
    )


def stored_header(job_id: UUID, row: Row[Any] | None) -> TranscriptHeader:
    """Return the header of a job's transcript, as it was stored.

    ``row`` has the job's ``state`` and ``transcript_deleted_at``, and the ``header``.

    Raises: as ``open_transcript``.
    """
    if row is None:
        raise JobNotFound(f"there is no job {job_id}")
    if row.transcript_deleted_at is not None:
        raise TranscriptDeleted("the transcript was removed: its time was up")
    if row.header is None:
        raise TranscriptNotReady(f"the job is {row.state}, so it has no transcript", row.state)
    return TranscriptHeader.model_validate(row.header)


@dataclass(frozen=True, slots=True)
class _StoredSegments:
    """The segments of a transcript, page by page, without a transaction between pages."""

    engine: Engine
    tenant: str
    transcript_id: UUID
    document: str
    """SQL for the column ``document``."""

    def __iter__(self) -> Iterator[Segment]:
        after = -1
        while True:
            with read(self.engine, self.tenant) as connection:
                page = connection.execute(
                    text(f"""
                        SELECT idx, {self.document} FROM transcript_segments
                        WHERE transcript_id = :id AND idx > :after ORDER BY idx LIMIT :limit
                    """),  # noqa: S608 - the variable part is one of two constants
                    {"id": self.transcript_id, "after": after, "limit": _SEGMENTS_PER_PAGE},
                ).all()
                last = len(page) < _SEGMENTS_PER_PAGE
                # A transcript that is removed meanwhile must not look like a short one.
                if (
                    last
                    and not connection.execute(
                        text("SELECT FROM transcripts WHERE id = :id"), {"id": self.transcript_id}
                    ).all()
                ):
                    raise TranscriptDeleted("the transcript was removed while it was read")
            for row in page:
                yield Segment.model_validate(row.document)
            if last:
                return
            after = page[-1].idx


def short_transcripts(
    connection: Connection, job_ids: Collection[UUID]
) -> dict[UUID, StoredTranscript]:
    """Return these jobs' transcripts that fit into one page, without their words."""
    rows = fetch(connection, _SHORT, {"ids": list(job_ids), "most": _SEGMENTS_PER_PAGE})
    found = {}
    for row in rows:
        if row["n_segments"] <= _SEGMENTS_PER_PAGE:
            segments = _SEGMENTS.validate_json(row["segments"])
            revision = Revision.model_validate_json(row["speakers"] or "{}")
            header = revision.header(TranscriptHeader.model_validate_json(row["header"]))
            found[row["id"]] = StoredTranscript(
                row["transcript_id"], header, (), revision.segments(segments)
            )
    return found


_SEGMENTS = TypeAdapter(list[Segment])

_SHORT = f"""
    SELECT jobs.id, jobs.transcript_id, CAST(header AS text) AS header, page.n_segments,
           CAST(jobs.speakers AS text) AS speakers,
           CAST(page.segments AS text) AS segments
    FROM jobs JOIN transcripts ON transcripts.id = jobs.transcript_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS n_segments,
               coalesce(jsonb_agg({_WITHOUT_WORDS} ORDER BY idx), '[]') AS segments
        FROM (
            SELECT idx, document FROM transcript_segments
            WHERE transcript_id = transcripts.id ORDER BY idx LIMIT %(most)s + 1
        ) AS segment
    ) AS page
    WHERE jobs.id = ANY (%(ids)s) AND transcript_deleted_at IS NULL
      AND jobs.options ->> 'edits' IS NULL -- edits need the words
      AND NOT EXISTS (SELECT FROM corrections WHERE job_id = jobs.id) -- and so do corrections
"""  # noqa: S608 - a constant


# One statement, so one snapshot. The chunks that are done are remembered as ranges of their idxs,
# so every pass reads the same ones.
_SNAPSHOT = text("""
    WITH job AS (
        SELECT id, options, detected_language, detected_probability, duration_s, metrics
        FROM jobs WHERE id = :id AND tenant = :tenant
    ), chunk AS (
        SELECT idx, state = 'done' AS done, (input ->> 'channel')::int AS channel,
               (input ->> 'core_start')::bigint AS core_start,
               (input ->> 'core_end')::bigint AS core_end, input -> 'times' AS times
        FROM steps WHERE job_id = (SELECT id FROM job) AND kind = 'transcribe'
    ), missing AS (
        SELECT unnest(range_agg(int8range(core_start, core_end))) AS span FROM chunk WHERE NOT done
    ), first_missing AS (
        SELECT lower(span) AS start, upper(span) AS until FROM missing ORDER BY 1 LIMIT :most
    )
    SELECT job.*,
           (SELECT coalesce(range_agg(int4range(idx, idx + 1)), '{}')::text FROM chunk WHERE done)
               AS done,
           coalesce((job.metrics ->> 'channels')::int, (SELECT max(channel) + 1 FROM chunk))
               AS channels,
           (SELECT coalesce(max(core_end), 0) FROM chunk) AS planned_until,
           (SELECT coalesce(sum(upper(span) - lower(span)), 0)::bigint FROM missing)
               AS missing_samples,
           (SELECT coalesce(max(upper(span)), 0) FROM missing) AS missing_until,
           (SELECT times FROM chunk WHERE NOT done ORDER BY core_end DESC LIMIT 1) AS last_times,
           (SELECT coalesce(jsonb_agg(jsonb_build_array(
                start, until,
                (SELECT times FROM chunk WHERE core_start = start AND NOT done LIMIT 1),
                (SELECT times FROM chunk WHERE core_end = until AND NOT done LIMIT 1)
            ) ORDER BY start), '[]') FROM first_missing) AS missing
    FROM job
""")


@dataclass(frozen=True, slots=True)
class PartialView:
    """A partial transcript. Each iteration over its segments reads them anew, page by page."""

    header: PartialHeader
    segments: Iterable[Segment]

    @property
    def segments_without_words(self) -> Iterable[Segment]:
        """The same: words are needed to find them."""
        return self.segments


def open_partial_transcript(
    engine: Engine, tenant: str, job_id: UUID, *, original: bool = False
) -> PartialView:
    """Return the transcript of the job's chunks that are done now; ``original`` as above.

    Raises:
        JobNotFound: there is no such job for this tenant.
    """
    with read(engine, tenant) as connection:
        job = (
            connection.execute(_SNAPSHOT, {"id": job_id, "tenant": tenant, "most": MAX_MISSING})
            .mappings()
            .one_or_none()
        )
    if job is None:
        raise JobNotFound(f"there is no job {job_id}")
    options = ResolvedOptions.model_validate(job["options"])
    done, duration_s = job["done"], job["duration_s"]
    found = survey(
        as_heard(finished_chunks_without_words(engine, job_id, among=done, tenant=tenant))
    )
    asked = options.language or job["detected_language"]
    header = PartialHeader(
        language=asked or found.language,
        language_probability=job["detected_probability"] if asked else found.language_probability,
        channels=job["channels"],
        duration_s=duration_s,
        speech_s=to_seconds(found.speech_samples),
        missing_s=to_seconds(job["missing_samples"]),
        missing=_missing_spans(job),
        # The mean confidence is known of a whole transcript only.
        warnings=make_warnings(
            found,
            None,
            job["metrics"].get("clipped_share"),
            map(TranscriptWarning.model_validate, job["metrics"].get("warnings", ())),
        ),
    )
    segments = _FinishedSegments(
        engine,
        tenant,
        job_id,
        n_samples=job["planned_until"] if duration_s is None else round(duration_s * SAMPLE_RATE),
        channels=job["channels"],
        language=options.text_language(header.language),
        done=done,
    )
    if options.edits is not None and not original:
        return PartialView(header, EditedSegments(segments, options.edits))
    return PartialView(header, segments)


@dataclass(frozen=True, slots=True)
class _FinishedSegments:
    """The stitched segments of the chunks ``done``."""

    engine: Engine
    tenant: str
    job_id: UUID
    n_samples: int
    channels: int | None
    language: str | None
    done: str
    """An int4multirange."""

    def __iter__(self) -> Iterator[Segment]:
        numbers = [None] if self.channels is None else range(self.channels)
        stitcher = Stitcher(self.n_samples, language=self.language)
        return stitcher.stitch(
            [
                as_heard(
                    finished_chunks(
                        self.engine,
                        self.job_id,
                        channel=number,
                        among=self.done,
                        tenant=self.tenant,
                    )
                )
                for number in numbers
            ]
        )


def _missing_spans(job: RowMapping) -> list[MissingSpan]:
    """Return the spans on the file's clock."""
    spans: list[list[Any]] = job["missing"]
    if len(spans) == MAX_MISSING:
        start, _, times, _ = spans[-1]
        spans = [*spans[:-1], [start, job["missing_until"], times, job["last_times"]]]
    return [
        MissingSpan(
            start=to_seconds(time_of(start_times or (), start)),
            end=to_seconds(time_of(end_times or (), end)),
        )
        for start, end, start_times, end_times in spans
    ]
