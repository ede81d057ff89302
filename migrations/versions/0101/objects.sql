CREATE TABLE removals (
    prefix TEXT NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    again_at TIMESTAMP WITH TIME ZONE,
    taken_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_removals PRIMARY KEY (prefix)
);

COMMENT ON TABLE removals IS 'What the sweeper removes from the object store, unless it is taken back before.';
COMMENT ON COLUMN removals.prefix IS 'all objects whose keys begin with it';
COMMENT ON COLUMN removals.again_at IS 'when to remove once more what was written late';
COMMENT ON COLUMN removals.taken_at IS 'when it was last tried';
CREATE INDEX ix_removals_due_at ON removals (due_at);


CREATE TABLE uploads (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    state TEXT NOT NULL,
    name TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 TEXT,
    resumable BOOLEAN NOT NULL,
    offset_bytes BIGINT DEFAULT '0' NOT NULL,
    epoch INTEGER DEFAULT '0' NOT NULL,
    multipart_id TEXT,
    metadata TEXT,
    held BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_uploads PRIMARY KEY (id),
    CONSTRAINT ck_uploads_state CHECK (state IN ('open', 'verifying', 'complete', 'failed'))
);

COMMENT ON TABLE uploads IS 'Files that come in before their jobs do.';
COMMENT ON COLUMN uploads.id IS 'UUIDv7: sorts by creation';
COMMENT ON COLUMN uploads.name IS 'of the file, as the client says';
COMMENT ON COLUMN uploads.size_bytes IS 'as declared';
COMMENT ON COLUMN uploads.sha256 IS 'as declared, if it was; once complete, as found';
COMMENT ON COLUMN uploads.resumable IS 'whether it comes by tus, through the API';
COMMENT ON COLUMN uploads.offset_bytes IS 'of tus: what is stored for good';
COMMENT ON COLUMN uploads.epoch IS 'of tus: raised by every PATCH; fences it';
COMMENT ON COLUMN uploads.multipart_id IS 'of the object store''s multipart upload';
COMMENT ON COLUMN uploads.metadata IS 'of tus: what its client said of it, returned unchanged';
COMMENT ON COLUMN uploads.held IS 'a job needs its object';
COMMENT ON COLUMN uploads.expires_at IS 'when it is removed, unless it is held';
CREATE INDEX ix_uploads_open ON uploads (tenant) WHERE state = 'open';
CREATE INDEX ix_uploads_expires_at ON uploads (expires_at) WHERE NOT held;
