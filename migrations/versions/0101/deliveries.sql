CREATE TABLE webhook_events (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    job_id UUID,
    batch_id UUID,
    run INTEGER NOT NULL,
    type TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_webhook_events PRIMARY KEY (id),
    CONSTRAINT fk_webhook_events_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_webhook_events_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id)
);
COMMENT ON COLUMN webhook_events.id IS 'the webhook-id header';
COMMENT ON COLUMN webhook_events.job_id IS 'null for test events';
COMMENT ON COLUMN webhook_events.batch_id IS 'whose end this is, with that of a job';
COMMENT ON COLUMN webhook_events.run IS 'the job''s, of which this is the end';
COMMENT ON COLUMN webhook_events.body IS 'as sent, to the byte';

CREATE UNIQUE INDEX uq_webhook_events_batches ON webhook_events (batch_id) WHERE batch_id IS NOT NULL;

CREATE UNIQUE INDEX uq_webhook_events_jobs ON webhook_events (job_id, run) WHERE batch_id IS NULL;
CREATE INDEX ix_webhook_events_tests ON webhook_events (created_at) WHERE job_id IS NULL;


CREATE TABLE webhook_deliveries (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    event_id UUID NOT NULL,
    endpoint_id UUID NOT NULL,
    state TEXT DEFAULT 'pending' NOT NULL,
    error TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_webhook_deliveries PRIMARY KEY (id),
    CONSTRAINT ck_webhook_deliveries_state CHECK (state IN ('pending', 'delivered', 'failed')),
    CONSTRAINT fk_webhook_deliveries_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    CONSTRAINT fk_webhook_deliveries_event_id FOREIGN KEY(event_id) REFERENCES webhook_events (id) ON DELETE CASCADE,
    CONSTRAINT uq_webhook_deliveries_event_id_endpoint_id UNIQUE (event_id, endpoint_id)
);
COMMENT ON COLUMN webhook_deliveries.id IS 'UUIDv7: sorts by creation';
COMMENT ON COLUMN webhook_deliveries.error IS 'why it failed';
CREATE INDEX ix_webhook_deliveries_endpoint_id_id ON webhook_deliveries (endpoint_id, id);
CREATE INDEX ix_webhook_deliveries_tenant_id ON webhook_deliveries (tenant, id);


CREATE TABLE webhook_attempts (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    delivery_id UUID NOT NULL,
    status_code INTEGER,
    latency_ms REAL NOT NULL,
    error TEXT,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_webhook_attempts PRIMARY KEY (id),
    CONSTRAINT fk_webhook_attempts_delivery_id FOREIGN KEY(delivery_id) REFERENCES webhook_deliveries (id) ON DELETE CASCADE
);
COMMENT ON COLUMN webhook_attempts.status_code IS 'null: there was no answer';
COMMENT ON COLUMN webhook_attempts.error IS 'why it counts as failed';
CREATE INDEX ix_webhook_attempts_delivery_id ON webhook_attempts (delivery_id);
