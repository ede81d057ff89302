"""How long steps wait for their next holder when a fault has taken the one they had."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from harness.faults.history import Fault
from harness.faults.replay import Tenure, TenureEnd


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


def find_recoveries(tenures: Iterable[Tenure], faults: Sequence[Fault]) -> Iterator[Recovery]:
    """Yield a recovery for every step that a fault took from its holder."""
    for tenure in tenures:
        ended, following, step_id = tenure.ended, tenure.next_claim, tenure.claimed.step_id
        if ended is None or following is None or step_id is None:
            continue
        if tenure.how is not TenureEnd.REAPED:
            continue
        causes = [
            fault
            for fault in faults
            if fault.kills
            and fault.hits(tenure.claimed.owner)
            and tenure.claimed.at <= fault.began <= ended.at
        ]
        if not causes:
            continue
        cause = max(causes, key=lambda fault: fault.began)
        yield Recovery(
            cause,
            tenure.claimed.job_id,
            step_id,
            requeued=ended.at - cause.began,
            took=following.at - cause.began,
            disturbed=_covered(
                cause.began, following.at, [fault for fault in faults if fault is not cause]
            ),
        )


def _covered(begin: datetime, end: datetime, faults: Sequence[Fault]) -> timedelta:
    """Return how much of [begin, end] lay within any fault."""
    covered, until = timedelta(), begin
    for fault in sorted(faults, key=lambda each: each.began):
        first, last = max(fault.began, until), min(fault.ended, end)
        if last > first:
            covered += last - first
            until = last
    return covered
