CREATE SEQUENCE event_ids;


CREATE TABLE batches (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    jobs INTEGER,
    webhook_endpoint_id UUID,
    result_url TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_batches PRIMARY KEY (id),
    CONSTRAINT fk_batches_webhook_endpoint_id FOREIGN KEY(webhook_endpoint_id) REFERENCES webhook_endpoints (id) ON DELETE SET NULL
);

COMMENT ON TABLE batches IS 'Jobs that were submitted together.';
COMMENT ON COLUMN batches.id IS 'UUIDv7: sorts by creation';
COMMENT ON COLUMN batches.jobs IS 'how many were created with it; null while they are';
COMMENT ON COLUMN batches.webhook_endpoint_id IS 'of the webhook_url that the batch itself named';
COMMENT ON COLUMN batches.result_url IS 'what its webhook event tells; null: its path alone';
COMMENT ON COLUMN batches.completed_at IS 'when all of its jobs had ended for the first time';
CREATE INDEX ix_batches_webhook_endpoint_id ON batches (webhook_endpoint_id) WHERE webhook_endpoint_id IS NOT NULL;


CREATE TABLE jobs (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    state TEXT NOT NULL,
    model TEXT NOT NULL,
    options JSONB NOT NULL,
    fingerprint TEXT,
    original_id UUID,
    cached BOOLEAN DEFAULT false NOT NULL,
    metadata JSON DEFAULT '{}'::json NOT NULL,
    batch_id UUID,
    result_url TEXT,
    webhook_endpoint_id UUID,
    run INTEGER DEFAULT '1' NOT NULL,
    detected_language TEXT,
    detected_probability REAL,
    language TEXT GENERATED ALWAYS AS (coalesce(detected_language, options ->> 'language')) STORED,
    upload_id UUID,
    source_key TEXT NOT NULL,
    source_name TEXT NOT NULL,
    source_bytes BIGINT,
    sha256 TEXT,
    audio_url TEXT,
    fetched_bytes BIGINT,
    fetch_total_bytes BIGINT,
    duration_s DOUBLE PRECISION,
    priority INTEGER DEFAULT '0' NOT NULL,
    chunks_total INTEGER DEFAULT '0' NOT NULL,
    chunks_done INTEGER DEFAULT '0' NOT NULL,
    plan_complete BOOLEAN DEFAULT false NOT NULL,
    audio_planned_s DOUBLE PRECISION DEFAULT '0' NOT NULL,
    planned_share DOUBLE PRECISION DEFAULT '0' NOT NULL,
    audio_done_s DOUBLE PRECISION DEFAULT '0' NOT NULL,
    percent_done DOUBLE PRECISION,
    audio_kept_s DOUBLE PRECISION DEFAULT '0' NOT NULL,
    transcribing_since TIMESTAMP WITH TIME ZONE,
    counted_audio_s DOUBLE PRECISION DEFAULT '0' NOT NULL,
    counted_model_s DOUBLE PRECISION DEFAULT '0' NOT NULL,
    error_code TEXT,
    error_detail TEXT,
    metrics JSONB DEFAULT '{}'::jsonb NOT NULL,
    manifest JSON,
    transcript_id UUID,
    reference TEXT,
    live_text TEXT,
    accuracy JSONB,
    first_event BIGINT NOT NULL,
    last_event BIGINT DEFAULT '0' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    audio_deleted_at TIMESTAMP WITH TIME ZONE,
    transcript_deleted_at TIMESTAMP WITH TIME ZONE,
    peaks BYTEA,
    listening_bytes BIGINT,
    speakers JSONB,
    CONSTRAINT pk_jobs PRIMARY KEY (id),
    CONSTRAINT ck_jobs_state CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    CONSTRAINT fk_jobs_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id),
    CONSTRAINT fk_jobs_original_id FOREIGN KEY(original_id) REFERENCES jobs (id) ON DELETE SET NULL,
    CONSTRAINT fk_jobs_transcript_id FOREIGN KEY(transcript_id) REFERENCES transcripts (id),
    CONSTRAINT fk_jobs_webhook_endpoint_id FOREIGN KEY(webhook_endpoint_id) REFERENCES webhook_endpoints (id) ON DELETE SET NULL,
    CONSTRAINT fk_jobs_upload_id FOREIGN KEY(upload_id) REFERENCES uploads (id) ON DELETE SET NULL
);
COMMENT ON COLUMN jobs.id IS 'UUIDv7: sorts by when the upload began';
COMMENT ON COLUMN jobs.model IS 'catalogue id';
COMMENT ON COLUMN jobs.options IS 'shared.models.options.ResolvedOptions';
COMMENT ON COLUMN jobs.fingerprint IS 'of audio, model and options; null: not to be shared';
COMMENT ON COLUMN jobs.original_id IS 'the equal job whose transcript this one gets';
COMMENT ON COLUMN jobs.batch_id IS 'null: it was submitted alone';
COMMENT ON COLUMN jobs.result_url IS 'what its webhook events tell; null: its path alone';
COMMENT ON COLUMN jobs.webhook_endpoint_id IS 'of the webhook_url that the job itself named';
COMMENT ON COLUMN jobs.run IS 'raised by every retry';
COMMENT ON COLUMN jobs.detected_language IS 'of the whole, where one was to be detected';
COMMENT ON COLUMN jobs.language IS 'given or detected';
COMMENT ON COLUMN jobs.upload_id IS 'the upload whose object is its source';
COMMENT ON COLUMN jobs.source_bytes IS 'null until it is fetched';
COMMENT ON COLUMN jobs.sha256 IS 'null until it is fetched';
COMMENT ON COLUMN jobs.audio_url IS 'where it is fetched from; without what may be a secret';
COMMENT ON COLUMN jobs.fetched_bytes IS 'of the file, while it is fetched';
COMMENT ON COLUMN jobs.fetch_total_bytes IS 'of the file, as its server says';
COMMENT ON COLUMN jobs.duration_s IS 'decoded length, known once prepared';
COMMENT ON COLUMN jobs.priority IS 'highest first';
COMMENT ON COLUMN jobs.audio_planned_s IS 'of all chunks';
COMMENT ON COLUMN jobs.planned_share IS 'of the whole audio, planned; estimated until plan_complete';
COMMENT ON COLUMN jobs.percent_done IS 'the most that could be said so far; never falls';
COMMENT ON COLUMN jobs.audio_kept_s IS 'of audio_done_s: from before transcribing_since, by earlier runs';
COMMENT ON COLUMN jobs.counted_audio_s IS 'of its audio, in usage already';
COMMENT ON COLUMN jobs.counted_model_s IS 'of model time, in usage already';
COMMENT ON COLUMN jobs.manifest IS 'speech.transcript.manifest.Manifest, of the transcript';
COMMENT ON COLUMN jobs.transcript_id IS 'equal jobs share one';
COMMENT ON COLUMN jobs.reference IS 'what was really said, as the client says';
COMMENT ON COLUMN jobs.live_text IS 'what a live session told of its audio; deleted with the transcript';
COMMENT ON COLUMN jobs.accuracy IS 'speech.text.accuracy.Accuracy, against the reference';
COMMENT ON COLUMN jobs.first_event IS 'id of the event of its creation; a tenant''s jobs are listed by it';
COMMENT ON COLUMN jobs.last_event IS 'id of the latest event that those who watch the job see';
COMMENT ON COLUMN jobs.peaks IS 'of its audio: worker.media.peaks';
COMMENT ON COLUMN jobs.listening_bytes IS 'size of its listening copy; null: there is none';
COMMENT ON COLUMN jobs.speakers IS 'speech.speakers.revision.Revision; deleted with the transcript';
CREATE INDEX ix_jobs_active ON jobs (id) WHERE state IN ('queued', 'running');
CREATE INDEX ix_jobs_ended ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX ix_jobs_original ON jobs (tenant, fingerprint) WHERE original_id IS NULL AND state IN ('queued', 'running', 'succeeded');
CREATE INDEX ix_jobs_original_id ON jobs (original_id) WHERE original_id IS NOT NULL;
CREATE INDEX ix_jobs_transcript_id ON jobs (transcript_id);
CREATE INDEX ix_jobs_unmeasured ON jobs (id) WHERE state = 'succeeded' AND reference IS NOT NULL AND accuracy IS NULL;
CREATE INDEX ix_jobs_webhook_endpoint_id ON jobs (webhook_endpoint_id) WHERE webhook_endpoint_id IS NOT NULL;
CREATE INDEX ix_jobs_batch_id_first_event ON jobs (batch_id, first_event) WHERE batch_id IS NOT NULL;
CREATE INDEX ix_jobs_active_of_batch ON jobs (batch_id) WHERE batch_id IS NOT NULL AND state IN ('queued', 'running');
CREATE INDEX ix_jobs_upload_id ON jobs (upload_id) WHERE upload_id IS NOT NULL;
CREATE INDEX ix_jobs_refused ON jobs (error_code, finished_at) WHERE audio_deleted_at IS NULL AND state = 'failed';
CREATE INDEX ix_jobs_with_audio ON jobs (state, finished_at) WHERE audio_deleted_at IS NULL AND finished_at IS NOT NULL;
CREATE INDEX ix_jobs_with_transcript ON jobs (finished_at) WHERE transcript_id IS NOT NULL;
CREATE INDEX ix_jobs_tenant_first_event ON jobs (tenant, first_event);
CREATE INDEX ix_jobs_of_model ON jobs (tenant, model, first_event);
CREATE INDEX ix_jobs_of_language ON jobs (tenant, language, first_event);
CREATE INDEX ix_jobs_tenant_created_at ON jobs (tenant, created_at);
CREATE INDEX ix_jobs_active_of_tenant ON jobs (tenant, first_event) WHERE state IN ('queued', 'running');
CREATE INDEX ix_jobs_ended_of_tenant ON jobs (tenant, state, first_event) WHERE state IN ('succeeded', 'failed', 'canceled');
CREATE INDEX ix_jobs_with_listening ON jobs (finished_at) WHERE listening_bytes IS NOT NULL;


CREATE TABLE job_metadata (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    first_event BIGINT NOT NULL,
    job_id UUID NOT NULL,
    CONSTRAINT pk_job_metadata PRIMARY KEY (tenant, key, value, first_event),
    CONSTRAINT fk_job_metadata_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

COMMENT ON TABLE job_metadata IS 'Members of jobs'' metadata by which jobs are found.';
COMMENT ON COLUMN job_metadata.first_event IS 'the job''s';
CREATE INDEX ix_job_metadata_job_id ON job_metadata (job_id);


CREATE TABLE calls (
    job_id UUID NOT NULL,
    wanted_until TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_calls PRIMARY KEY (job_id),
    CONSTRAINT fk_calls_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

COMMENT ON TABLE calls IS 'Jobs that the sweeper cancels once no client waits for them.';
COMMENT ON COLUMN calls.wanted_until IS 'renewed while a client waits for the job''s end';


CREATE TABLE corrections (
    job_id UUID NOT NULL,
    revision INTEGER NOT NULL,
    kind TEXT NOT NULL,
    segment INTEGER NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_corrections PRIMARY KEY (job_id, revision),
    CONSTRAINT ck_corrections_kind CHECK (kind IN ('correct', 'undo', 'redo')),
    CONSTRAINT fk_corrections_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

COMMENT ON TABLE corrections IS 'The journal of corrections of a job''s transcript; deleted with the transcript.';
COMMENT ON COLUMN corrections.revision IS 'from 1';
COMMENT ON COLUMN corrections.kind IS 'correct, undo or redo';
COMMENT ON COLUMN corrections.segment IS 'id of the segment';
COMMENT ON COLUMN corrections.before IS 'its text until then';
COMMENT ON COLUMN corrections.after IS 'its text since; empty: it is left out';
CREATE INDEX ix_corrections_job_id_segment_revision ON corrections (job_id, segment, revision);


CREATE TABLE share_links (
    id UUID NOT NULL,
    job_id UUID NOT NULL,
    sha256 BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_share_links PRIMARY KEY (id),
    CONSTRAINT uq_share_links_sha256 UNIQUE (sha256),
    CONSTRAINT fk_share_links_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

COMMENT ON TABLE share_links IS 'Links that open one job''s transcript and audio, read only, to whoever has them.';
COMMENT ON COLUMN share_links.id IS 'UUIDv7: sorts by creation';
COMMENT ON COLUMN share_links.sha256 IS 'of the link''s token, which is not stored';
CREATE INDEX ix_share_links_job_id ON share_links (job_id);


CREATE TABLE job_events (
    id BIGINT DEFAULT nextval('event_ids') NOT NULL,
    job_id UUID NOT NULL,
    step_id BIGINT,
    event TEXT NOT NULL,
    attempt INTEGER,
    epoch INTEGER,
    worker TEXT,
    detail TEXT,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_job_events PRIMARY KEY (id),
    CONSTRAINT fk_job_events_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

COMMENT ON TABLE job_events IS 'Append-only: changes of jobs'' states, and attempts at steps that failed.';
COMMENT ON COLUMN job_events.step_id IS 'null for a change of the job itself';
CREATE INDEX ix_job_events_job_id_id ON job_events (job_id, id);


CREATE TABLE idempotency_keys (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    holder UUID NOT NULL,
    held_until TIMESTAMP WITH TIME ZONE NOT NULL,
    fingerprint TEXT,
    answer JSONB,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_idempotency_keys PRIMARY KEY (tenant, key)
);

COMMENT ON TABLE idempotency_keys IS 'Requests that clients may repeat: each makes its jobs once.';
COMMENT ON COLUMN idempotency_keys.holder IS 'the request that works on the answer';
COMMENT ON COLUMN idempotency_keys.held_until IS 'renewed by the holder';
COMMENT ON COLUMN idempotency_keys.fingerprint IS 'of the request; null until it is answered';
COMMENT ON COLUMN idempotency_keys.answer IS 'what the request has made';
CREATE INDEX ix_idempotency_keys_created_at ON idempotency_keys (created_at);
