CREATE TABLE webhook_endpoints (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    url TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    events TEXT[] NOT NULL,
    secret TEXT NOT NULL,
    old_secret TEXT,
    old_secret_until TIMESTAMP WITH TIME ZONE,
    listed BOOLEAN NOT NULL,
    face JSONB,
    digest TEXT,
    enabled BOOLEAN DEFAULT true NOT NULL,
    disabled_reason TEXT,
    failing_since TIMESTAMP WITH TIME ZONE,
    host TEXT NOT NULL,
    prompt BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_webhook_endpoints PRIMARY KEY (id)
);
COMMENT ON COLUMN webhook_endpoints.events IS 'the types it wants';
COMMENT ON COLUMN webhook_endpoints.secret IS 'whsec_..., or with a face the value of a header, or empty';
COMMENT ON COLUMN webhook_endpoints.old_secret IS 'signs too, until it expires';
COMMENT ON COLUMN webhook_endpoints.listed IS 'false: made for jobs that name its URL';
COMMENT ON COLUMN webhook_endpoints.face IS 'of a dialect, in whose form it is told; null: the native one';
COMMENT ON COLUMN webhook_endpoints.digest IS 'of the URL, secret and face of one that is not listed';
COMMENT ON COLUMN webhook_endpoints.host IS 'of the URL; all endpoints of a host share its slots';
COMMENT ON COLUMN webhook_endpoints.prompt IS 'whether the last attempt was over soon; one that hangs has fewer slots';
CREATE INDEX ix_webhook_endpoints_listed ON webhook_endpoints (tenant, id) WHERE listed;

CREATE UNIQUE INDEX uq_webhook_endpoints_unlisted ON webhook_endpoints (tenant, digest) WHERE NOT listed;
