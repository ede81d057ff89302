"""What the checker checks is read here, and what it found is printed."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Engine, text

from harness.database.changes import read_changes
from harness.faults.checker import DOUBLED, LOST, Verdict
from harness.faults.history import Fault, History, Job, Received, Recording, Step, Told
from shared.infra.database import begin


def read_history(
    database: Engine,
    *,
    recordings: Mapping[str, Recording],
    faults: Sequence[Fault],
    accepted: Iterable[UUID] = (),
    canceled: Iterable[UUID] = (),
    received: Sequence[Received] = (),
    deaf: Iterable[str] = (),
) -> History:
    """Read all jobs, steps, changes and transcripts of a database that has come to rest.

    The arguments are as in ``History``: what the clients know, and what was done.
    """
    with begin(database) as connection:
        spoken: dict[UUID, str] = {
            row.id: row.text or ""
            for row in connection.execute(
                text("""
                    SELECT id, (
                        SELECT string_agg(document ->> 'text', ' ' ORDER BY idx)
                        FROM transcript_segments WHERE transcript_id = transcripts.id
                    ) AS text FROM transcripts
                """)
            )
        }
        jobs = [
            Job(
                id=row.id,
                state=row.state,
                error_code=row.error_code,
                original_id=row.original_id,
                cached=row.cached,
                chunks_total=row.chunks_total,
                chunks_done=row.chunks_done,
                sha256=row.sha256,
                text=spoken.get(row.transcript_id),
                run=row.run,
                announced=row.webhook_endpoint_id is not None,
            )
            for row in connection.execute(text("SELECT * FROM jobs"))
        ]
        steps = [
            Step(**row)
            for row in connection.execute(
                text("SELECT id, job_id, kind, idx, state, attempt, epoch FROM steps")
            ).mappings()
        ]
        deliveries: dict[UUID, list[tuple[str, str]]] = defaultdict(list)
        for row in connection.execute(
            text("""
                SELECT event_id, url, state FROM webhook_deliveries
                JOIN webhook_endpoints ON webhook_endpoints.id = endpoint_id
            """)
        ):
            deliveries[row.event_id].append((row.url, row.state))
        told = [
            Told(**row, deliveries=tuple(deliveries[row["id"]]))
            for row in connection.execute(
                text("SELECT id, job_id, run, type, body FROM webhook_events")
            ).mappings()
        ]
    return History(
        accepted=frozenset(accepted),
        canceled=frozenset(canceled),
        recordings=recordings,
        jobs=jobs,
        steps=steps,
        changes=read_changes(database),
        faults=faults,
        told=told,
        received=received,
        deaf=frozenset(deaf),
    )


def table(history: History, verdict: Verdict, *, stale_writes_refused: int) -> str:
    """Return what happened, as lines for a person."""
    states = Counter(job.state for job in history.jobs)
    ends = " ".join(f"{state} {count}" for state, count in sorted(states.items()))
    lines = [
        f"{'jobs accepted':<28}{len(history.accepted):>8}   of {len(history.jobs)}: {ends}",
        f"{'lost':<28}{verdict.jobs_that_broke(LOST):>8}",
        f"{'doubled':<28}{verdict.jobs_that_broke(DOUBLED):>8}",
        f"{'other violations':<28}{len(verdict.violations):>8}   of any rule",
        f"{'webhook events delivered':<28}{_delivered(history):>8}",
        f"{'stale writes refused':<28}{stale_writes_refused:>8}",
        _waits("back in the queue after", [each.requeued for each in verdict.recoveries]),
        _waits("claimed again after", [each.took for each in verdict.recoveries]),
        _waits(
            "  no other fault meanwhile",
            [each.took for each in verdict.recoveries if not each.disturbed],
        ),
    ]
    kinds = Counter(fault.kind for fault in history.faults)
    lines += [f"  {kind:<34}{count:>4}" for kind, count in sorted(kinds.items())]
    return "\n".join(lines)


def _waits(what: str, recoveries: Sequence[timedelta]) -> str:
    """Return how many steps a fault left without their holder, and how many seconds it took."""
    waits = sorted(each.total_seconds() for each in recoveries)
    if not waits:
        return f"{what:<28}{0:>8}"
    at = {"p50": waits[len(waits) // 2], "p99": waits[-1 - len(waits) // 100], "max": waits[-1]}
    return f"{what:<28}{len(waits):>8}" + "".join(f"   {n} {s:.1f} s" for n, s in at.items())


def _delivered(history: History) -> int:
    return sum(state == "delivered" for event in history.told for _, state in event.deliveries)
