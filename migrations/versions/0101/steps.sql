CREATE TABLE steps (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    job_id UUID NOT NULL,
    kind TEXT NOT NULL,
    idx INTEGER NOT NULL,
    queue TEXT NOT NULL,
    tenant TEXT NOT NULL,
    rank INTEGER NOT NULL,
    job_turn BIGINT DEFAULT '0' NOT NULL,
    tenant_turn BIGINT DEFAULT '0' NOT NULL,
    lane TEXT,
    state TEXT DEFAULT 'queued' NOT NULL,
    attempt INTEGER DEFAULT '0' NOT NULL,
    max_attempts INTEGER NOT NULL,
    outages INTEGER DEFAULT '0' NOT NULL,
    epoch INTEGER DEFAULT '0' NOT NULL,
    lease_owner TEXT,
    lease_until TIMESTAMP WITH TIME ZONE,
    run_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    claimed_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    input JSONB DEFAULT '{}'::jsonb NOT NULL,
    audio BYTEA,
    output JSONB,
    timings JSONB,
    error_code TEXT,
    error_detail TEXT,
    bug TEXT,
    event_id BIGINT,
    CONSTRAINT pk_steps PRIMARY KEY (id),
    CONSTRAINT ck_steps_kind CHECK (kind IN ('fetch', 'prepare', 'detect', 'transcribe', 'diarize', 'finish', 'deliver', 'listen')),
    CONSTRAINT ck_steps_state CHECK (state IN ('queued', 'running', 'done', 'failed', 'void')),
    CONSTRAINT fk_steps_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT uq_steps_job_id_kind_idx UNIQUE (job_id, kind, idx)
);
-- Samples can hardly be compressed.
ALTER TABLE steps ALTER COLUMN audio SET STORAGE EXTERNAL;
COMMENT ON COLUMN steps.idx IS 'the number of a chunk or a delivery; else 0';
COMMENT ON COLUMN steps.tenant IS 'its job''s';
COMMENT ON COLUMN steps.rank IS 'lowest first: minus its job''s priority, least if its worker was lost';
COMMENT ON COLUMN steps.job_turn IS 'orders the jobs of a tenant (shared.store.successors)';
COMMENT ON COLUMN steps.tenant_turn IS 'orders the tenants of a queue (shared.store.successors)';
COMMENT ON COLUMN steps.lane IS 'of a deliver step: its endpoint, which takes only a few at once';
COMMENT ON COLUMN steps.outages IS 'claims given back because a service was away; not among the attempts';
COMMENT ON COLUMN steps.epoch IS 'raised by every claim';
COMMENT ON COLUMN steps.audio IS 'of a short file''s chunk: samples, s16le';
COMMENT ON COLUMN steps.bug IS 'fingerprint of the unexpected error that ended the last attempt';
COMMENT ON COLUMN steps.event_id IS 'of a done chunk: its place among the job''s events';
CREATE INDEX ix_steps_due ON steps (queue, run_at) WHERE state = 'queued';
CREATE INDEX ix_steps_events ON steps (job_id, event_id) WHERE event_id IS NOT NULL;
CREATE INDEX ix_steps_running ON steps (queue, lease_until) WHERE state = 'running';
CREATE INDEX ix_steps_turns ON steps (queue, tenant_turn, id) INCLUDE (tenant, run_at) WHERE kind <> 'deliver' AND state = 'queued';
CREATE INDEX ix_steps_turns_of_tenants ON steps (queue, tenant, tenant_turn) WHERE kind <> 'deliver' AND state = 'queued';
CREATE INDEX ix_steps_waiting ON steps (queue, tenant, rank, job_turn, job_id, idx, run_at) WHERE kind <> 'deliver' AND state = 'queued';
CREATE INDEX ix_steps_waiting_in_lanes ON steps (lane, run_at) WHERE lane IS NOT NULL AND state = 'queued';
