"""Workers and the queues that they serve."""

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.store.states import StepKind
from shared.store.tables.schema import TIME, metadata, not_null, one_of

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    not_null("role", Text, comment="cpu, model, deliver or beat"),
    Column("model", Text, comment="catalogue id of a model worker"),
    not_null("queues", ARRAY(Text)),
    not_null("slots", Integer, comment="claims it works on at once"),
    not_null("state", Text, comment="loading, ready, unloaded or drained"),
    not_null(
        "drained",
        Boolean,
        default=text("false"),
        comment="whether it was asked to claim nothing until it is resumed",
    ),
    not_null("device", Text),
    Column("dtype", Text, comment="what a model worker's device computes in"),
    not_null("version", Text),
    Column("load_s", REAL, comment="seconds the model took to load, the last time"),
    Column("warm_up_s", REAL, comment="seconds its first second of audio took"),
    Column("sandbox", JSONB, comment="what confines its decoders of media, and what does not"),
    Column(
        "suspect_step",
        BigInteger,
        comment="the step its model hears alone now, as an attempt before this one has failed",
    ),
    not_null("started_at", TIME, default=func.now()),
    not_null("last_seen_at", TIME, default=func.now()),
)

worker_kinds = Table(
    "worker_kinds",
    metadata,
    Column("worker_id", ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True),
    not_null("proven", Boolean, comment="whether it has done such a step"),
    Column("bug", Text, comment="fingerprint of the unexpected error that it met last"),
    not_null("failures", Integer, comment="how often in a row, before it is proven"),
    Column("reason", Text, comment="the same for people"),
    one_of("kind", StepKind),
    comment="What became of each kind of step at a worker, since the worker's start.",
)

served_queues = Table(
    "served_queues",
    metadata,
    Column("queue", Text, primary_key=True),
    not_null("last_served_at", TIME),
    comment="When a worker that is gone last served a queue; the living are in workers.",
)
