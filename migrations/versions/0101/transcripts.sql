CREATE TABLE transcripts (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    header JSONB NOT NULL,
    voiceprints JSONB,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_transcripts PRIMARY KEY (id),
    CONSTRAINT uq_transcripts_tenant_id UNIQUE (tenant, id)
);
COMMENT ON COLUMN transcripts.id IS 'of the job that made it';
COMMENT ON COLUMN transcripts.tenant IS 'that job''s, and all others'' that share it';
COMMENT ON COLUMN transcripts.header IS 'speech.transcript.transcript.TranscriptHeader';
COMMENT ON COLUMN transcripts.voiceprints IS 'speech.speakers.voiceprints.Voiceprints, where its job identifies speakers';


CREATE TABLE transcript_segments (
    transcript_id UUID NOT NULL,
    idx INTEGER NOT NULL,
    document JSONB NOT NULL,
    CONSTRAINT pk_transcript_segments PRIMARY KEY (transcript_id, idx),
    CONSTRAINT fk_transcript_segments_transcript_id FOREIGN KEY(transcript_id) REFERENCES transcripts (id) ON DELETE CASCADE
);

COMMENT ON TABLE transcript_segments IS 'One row per segment: a long transcript is written and read in pieces.';
COMMENT ON COLUMN transcript_segments.document IS 'speech.transcript.transcript.Segment';


CREATE TABLE transcript_terms (
    tenant TEXT NOT NULL,
    transcript_id UUID NOT NULL,
    idx INTEGER NOT NULL,
    terms TSVECTOR NOT NULL,
    CONSTRAINT pk_transcript_terms PRIMARY KEY (tenant, transcript_id, idx),
    CONSTRAINT fk_transcript_terms_tenant_transcript_id FOREIGN KEY(tenant, transcript_id) REFERENCES transcripts (tenant, id) ON DELETE CASCADE
);

COMMENT ON TABLE transcript_terms IS 'What segments are found by.';
COMMENT ON COLUMN transcript_terms.idx IS 'of the segment';
COMMENT ON COLUMN transcript_terms.terms IS 'each with the tenant before it (shared.store.search)';
CREATE INDEX ix_transcript_terms_terms ON transcript_terms USING gin (terms);


CREATE TABLE voices (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    model TEXT NOT NULL,
    revision TEXT NOT NULL,
    voiceprint TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_voices PRIMARY KEY (id),
    CONSTRAINT fk_voices_tenant FOREIGN KEY(tenant) REFERENCES tenants (id) ON DELETE CASCADE
);

COMMENT ON TABLE voices IS 'People whom jobs recognize.';
COMMENT ON COLUMN voices.id IS 'UUIDv7: sorts by creation';
COMMENT ON COLUMN voices.name IS 'of the person';
COMMENT ON COLUMN voices.model IS 'catalogue id of the diarizer that hears it';
COMMENT ON COLUMN voices.revision IS 'of that model';
COMMENT ON COLUMN voices.voiceprint IS 'speech.speakers.recognition.encode';
CREATE INDEX ix_voices_tenant ON voices (tenant);
