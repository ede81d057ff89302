"""How long steps that a fault left without their holder waited for the next one."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from history import Event, Fault, History
from replay import Tenure

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Recovery:
    """One such step, from the fault's beginning to its next claim."""

    fault: Fault
    job_id: UUID
    step_id: int
    requeued: timedelta
    """When it was back in its queue."""
    took: timedelta
    disturbed: timedelta
    """How much of it lay within other faults."""
    excused: timedelta
    """The same, and how long it waited its turn in the queue behind steps of older jobs."""


def find_recoveries(tenures: Iterable[Tenure], history: History) -> Iterator[Recovery]:
    """Yield a recovery for every step that a fault took from its holder."""
    kinds = {step.id: step.kind for step in history.steps}
    claims: dict[str, list[Event]] = defaultdict(list)
    for event in history.events:
        if event.event == "step.claimed" and event.step_id in kinds:
            claims[kinds[event.step_id]].append(event)
    for tenure in tenures:
        ended, following, step_id = tenure.ended, tenure.next_claim, tenure.claimed.step_id
        if ended is None or following is None or step_id is None or ended.event != "step.reaped":
            continue
        causes = [
            fault
            for fault in history.faults
            if fault.kills
            and fault.hits(tenure.claimed.worker)
            and tenure.claimed.at <= fault.began <= ended.at
        ]
        if not causes:
            continue
        cause = max(causes, key=lambda fault: fault.began)
        others = [(fault.began, fault.ended) for fault in history.faults if fault is not cause]
        older = [
            claim.at
            for claim in claims.get(kinds.get(step_id, ""), ())
            if claim.job_id < following.job_id and ended.at < claim.at < following.at
        ]
        in_turn = (ended.at, max(older, default=ended.at))
        yield Recovery(
            cause,
            tenure.claimed.job_id,
            step_id,
            requeued=ended.at - cause.began,
            took=following.at - cause.began,
            disturbed=_covered(cause.began, following.at, others),
            excused=_covered(cause.began, following.at, [*others, in_turn]),
        )


def _covered(begin: datetime, end: datetime, spans: Iterable[Span]) -> timedelta:
    """Return how much of [begin, end] lay within any span."""
    covered, until = timedelta(), begin
    for began, ended in sorted(spans):
        first, last = max(began, until), min(ended, end)
        if last > first:
            covered += last - first
            until = last
    return covered
