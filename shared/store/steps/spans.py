"""The span of each attempt at a step: a child of the span that submitted the job.

Its id follows from the step's id and the claim's epoch. So the next attempt can link to it, and
where its worker dies the sweep writes it in the worker's place: what the worker had already sent of
its children has its parent.
"""

from sqlalchemy import Engine, text

from shared.infra.database import read
from shared.infra.errors import DatabaseUnavailable
from shared.infra.tracing import NO_SPAN, Kind, Span, TraceContext, begin, derived_span_id
from shared.store.steps.claims import Claim

LEASE_EXPIRED = "lease_expired"
"""``error.type`` of an attempt whose worker died or hung."""


def begin_attempt(claim: Claim, *, begun_s: float | None = None) -> Span:
    """Begin the span of an attempt, now or at a time in seconds since 1970."""
    submission = TraceContext.parse(claim.traceparent)
    if submission is None:
        return NO_SPAN
    trace_id = submission.trace_id
    links = []
    if claim.is_repeated:
        before = derived_span_id(trace_id, claim.step_id, claim.epoch - 1)
        links = [TraceContext(trace_id, before, submission.sampled)]
    return begin(
        str(claim.kind),
        Kind.CONSUMER,
        parent=submission,
        links=links,
        span_id=derived_span_id(trace_id, claim.step_id, claim.epoch),
        at_s=begun_s,
        attributes={
            "messaging.system": "longhand",
            "messaging.operation.name": "claim",
            "messaging.operation.type": "process",
            "messaging.destination.name": claim.queue,
            "messaging.message.id": str(claim.step_id),
            "longhand.job.id": str(claim.job_id),
            "longhand.tenant": claim.tenant,
            "longhand.model": claim.options.model,
            "longhand.step.kind": str(claim.kind),
            "longhand.step.index": claim.idx,
            "longhand.step.attempt": claim.attempt,
            "longhand.step.epoch": claim.epoch,
            "longhand.step.queue_wait_s": round(claim.waited_s, 4),
            "longhand.worker": claim.owner,
        },
    )


def end_attempt(
    engine: Engine, claim: Claim, span: Span, error: Exception | None, *, was_held: bool
) -> None:
    """End the span of an attempt that did not complete its step.

    A worker whose claim was void by then may have been taken for dead. The sweep has written the
    span in that case, so this one is dropped.
    """
    if was_held or not span.is_recording or not _was_ended_by_sweep(engine, claim):
        span.end(error)


def write_lost(claim: Claim, *, begun_s: float, ended_s: float) -> None:
    """Write the span of an attempt whose worker cannot; times in seconds since 1970."""
    begin_attempt(claim, begun_s=begun_s).end(LEASE_EXPIRED, at_s=ended_s)


def _was_ended_by_sweep(engine: Engine, claim: Claim) -> bool:
    """Whether the audit trail has an end of this claim, which its worker did not write."""
    try:
        with read(engine) as connection:
            return bool(
                connection.execute(
                    text("""
                        SELECT EXISTS (
                            SELECT FROM job_events
                            WHERE job_id = :job_id AND step_id = :step_id AND epoch = :epoch
                        )
                    """),
                    {"job_id": claim.job_id, "step_id": claim.step_id, "epoch": claim.epoch},
                ).scalar_one()
            )
    except DatabaseUnavailable:
        return False
