CREATE TABLE tenants (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    limits JSONB DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT pk_tenants PRIMARY KEY (id),
    CONSTRAINT ck_tenants_id CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$')
);
COMMENT ON COLUMN tenants.limits IS 'what differs from the platform''s defaults';

INSERT INTO tenants (id, name) VALUES ('default', 'Default');


CREATE TABLE api_keys (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    sha256 BYTEA NOT NULL,
    scopes TEXT[] NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    last_used_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_api_keys PRIMARY KEY (id),
    CONSTRAINT fk_api_keys_tenant FOREIGN KEY(tenant) REFERENCES tenants (id) ON DELETE CASCADE,
    CONSTRAINT uq_api_keys_sha256 UNIQUE (sha256)
);
COMMENT ON COLUMN api_keys.id IS 'UUIDv7: sorts by creation';
COMMENT ON COLUMN api_keys.name IS 'for people';
COMMENT ON COLUMN api_keys.sha256 IS 'of the whole key, which is not stored';
COMMENT ON COLUMN api_keys.expires_at IS 'null: never';
COMMENT ON COLUMN api_keys.last_used_at IS 'to the minute';
CREATE INDEX ix_api_keys_tenant ON api_keys (tenant);


CREATE TABLE usage (
    tenant TEXT NOT NULL,
    day DATE NOT NULL,
    jobs BIGINT DEFAULT '0' NOT NULL,
    audio_s DOUBLE PRECISION DEFAULT '0' NOT NULL,
    model_s DOUBLE PRECISION DEFAULT '0' NOT NULL,
    live_s DOUBLE PRECISION DEFAULT '0' NOT NULL,
    CONSTRAINT pk_usage PRIMARY KEY (tenant, day)
);

COMMENT ON TABLE usage IS 'What tenants used, without what is in usage_entries still.';
COMMENT ON COLUMN usage.day IS 'UTC';
COMMENT ON COLUMN usage.jobs IS 'that ended for the first time';
CREATE INDEX ix_usage_day ON usage (day);


CREATE TABLE usage_entries (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    tenant TEXT NOT NULL,
    day DATE NOT NULL,
    jobs BIGINT DEFAULT '0' NOT NULL,
    audio_s DOUBLE PRECISION DEFAULT '0' NOT NULL,
    model_s DOUBLE PRECISION DEFAULT '0' NOT NULL,
    live_s DOUBLE PRECISION DEFAULT '0' NOT NULL,
    CONSTRAINT pk_usage_entries PRIMARY KEY (id)
);

COMMENT ON TABLE usage_entries IS 'What tenants used, until it is added to usage: jobs that end wait for no common row.';
COMMENT ON COLUMN usage_entries.jobs IS 'that ended for the first time';
CREATE INDEX ix_usage_entries_tenant_day ON usage_entries (tenant, day);
