"""Transcripts and what they are found by."""

from sqlalchemy import (
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR, UUID

from shared.store.tables.schema import TIME, metadata, not_null

transcripts = Table(
    "transcripts",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="of the job that made it"),
    not_null("tenant", Text, comment="that job's, and all others' that share it"),
    not_null("header", JSONB, comment="speech.transcript.transcript.TranscriptHeader"),
    Column(
        "voiceprints",
        JSONB,
        comment="speech.speakers.voiceprints.Voiceprints, where its job identifies speakers",
    ),
    not_null("created_at", TIME, default=func.now()),
    UniqueConstraint("tenant", "id"),
)

transcript_segments = Table(
    "transcript_segments",
    metadata,
    Column("transcript_id", ForeignKey("transcripts.id", ondelete="CASCADE"), primary_key=True),
    Column("idx", Integer, primary_key=True),
    not_null("document", JSONB, comment="speech.transcript.transcript.Segment"),
    comment="One row per segment: a long transcript is written and read in pieces.",
)

transcript_terms = Table(
    "transcript_terms",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("transcript_id", UUID(as_uuid=True), primary_key=True),
    Column("idx", Integer, primary_key=True, comment="of the segment"),
    not_null("terms", TSVECTOR, comment="each with the tenant before it (shared.store.search)"),
    ForeignKeyConstraint(
        ["tenant", "transcript_id"], ["transcripts.tenant", "transcripts.id"], ondelete="CASCADE"
    ),
    Index(None, "terms", postgresql_using="gin"),
    comment="What segments are found by.",
)

voices = Table(
    "voices",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="UUIDv7: sorts by creation"),
    Column("tenant", ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False, index=True),
    not_null("name", Text, comment="of the person"),
    not_null("model", Text, comment="catalogue id of the diarizer that hears it"),
    not_null("revision", Text, comment="of that model"),
    not_null("voiceprint", Text, comment="speech.speakers.recognition.encode"),
    not_null("created_at", TIME, default=func.now()),
    comment="People whom jobs recognize.",
)
