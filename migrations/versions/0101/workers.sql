CREATE TABLE served_queues (
    queue TEXT NOT NULL,
    last_served_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_served_queues PRIMARY KEY (queue)
);

COMMENT ON TABLE served_queues IS 'When a worker that is gone last served a queue; the living are in workers.';


CREATE TABLE workers (
    id TEXT NOT NULL,
    role TEXT NOT NULL,
    model TEXT,
    queues TEXT[] NOT NULL,
    slots INTEGER NOT NULL,
    state TEXT NOT NULL,
    drained BOOLEAN DEFAULT false NOT NULL,
    device TEXT NOT NULL,
    dtype TEXT,
    version TEXT NOT NULL,
    load_s REAL,
    warm_up_s REAL,
    sandbox JSONB,
    suspect_step BIGINT,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_workers PRIMARY KEY (id)
);
COMMENT ON COLUMN workers.role IS 'cpu, model, deliver or beat';
COMMENT ON COLUMN workers.model IS 'catalogue id of a model worker';
COMMENT ON COLUMN workers.slots IS 'claims it works on at once';
COMMENT ON COLUMN workers.state IS 'loading, ready, unloaded or drained';
COMMENT ON COLUMN workers.drained IS 'whether it was asked to claim nothing until it is resumed';
COMMENT ON COLUMN workers.dtype IS 'what a model worker''s device computes in';
COMMENT ON COLUMN workers.load_s IS 'seconds the model took to load, the last time';
COMMENT ON COLUMN workers.warm_up_s IS 'seconds its first second of audio took';
COMMENT ON COLUMN workers.sandbox IS 'what confines its decoders of media, and what does not';
COMMENT ON COLUMN workers.suspect_step IS 'the step its model hears alone now, as an attempt before this one has failed';


CREATE TABLE worker_kinds (
    worker_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    proven BOOLEAN NOT NULL,
    bug TEXT,
    failures INTEGER NOT NULL,
    reason TEXT,
    CONSTRAINT pk_worker_kinds PRIMARY KEY (worker_id, kind),
    CONSTRAINT ck_worker_kinds_kind CHECK (kind IN ('fetch', 'prepare', 'detect', 'transcribe', 'diarize', 'finish', 'deliver', 'listen')),
    CONSTRAINT fk_worker_kinds_worker_id FOREIGN KEY(worker_id) REFERENCES workers (id) ON DELETE CASCADE
);

COMMENT ON TABLE worker_kinds IS 'What became of each kind of step at a worker, since the worker''s start.';
COMMENT ON COLUMN worker_kinds.proven IS 'whether it has done such a step';
COMMENT ON COLUMN worker_kinds.bug IS 'fingerprint of the unexpected error that it met last';
COMMENT ON COLUMN worker_kinds.failures IS 'how often in a row, before it is proven';
COMMENT ON COLUMN worker_kinds.reason IS 'the same for people';
