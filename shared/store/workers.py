"""The registry of living workers, and when each queue was last served."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.store.queues import queue_model
from shared.store.states import StepKind

WorkerState = Literal["loading", "ready"]
"""It has started and takes no messages yet, or it takes them."""
ModelState = Literal["ready", "loading", "absent"]
"""The furthest that any worker of a model is; 'absent' where there is none."""

FAILURES = 2
"""Unexpected errors in a row, all the same, after which every step of a kind is said to fail, at a
worker that has done none yet."""
SERVED_LATELY_S = 900.0
"""How long a model counts as served after its last worker was seen: a restart of all its workers
takes less."""

_CHILD = "/"
"""Between a worker's id and what tells its processes apart; no host is named like that."""


_FAILING = f"""
    ARRAY(
        SELECT reason FROM worker_kinds
        WHERE worker_id = workers.id AND failures >= {FAILURES} ORDER BY kind
    ) AS failing
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class WorkerEntry:
    """What a worker says of itself."""

    id: str
    role: str
    model: str | None
    queues: Sequence[str]
    slots: int
    """Claims it works on at once, of a step or of a batch of chunks; 0 while a model loads."""
    state: WorkerState
    device: str
    dtype: str | None
    """What a model worker's device computes in; None until the model is loaded."""
    version: str
    load_s: float | None
    warm_up_s: float | None
    """Seconds that the model's first inference took."""


@dataclass(frozen=True, slots=True)
class WorkerView(WorkerEntry):
    """A worker as seen from outside."""

    started_at: datetime
    last_seen_at: datetime
    failing: Sequence[str]
    """What every step of a kind fails with, one sentence a kind, as long as none has succeeded."""


@dataclass(frozen=True, slots=True)
class RunningStep:
    """A step that a worker is at."""

    job_id: UUID
    kind: StepKind
    idx: int
    attempt: int
    since: datetime


@dataclass(frozen=True, slots=True)
class BusyWorker(WorkerView):
    """A worker and what it is at."""

    steps: Sequence[RunningStep]
    """Of the asking tenant's jobs."""
    other_steps: int
    """How many there are of other tenants' jobs."""


def child_id(worker_id: str, number: str) -> str:
    """Return the id under which one of a worker's processes claims steps."""
    return f"{worker_id}{_CHILD}{number}"


def parent_id(owner: str) -> str:
    """Return the id of the worker whose process claims steps under this one."""
    return owner.partition(_CHILD)[0]


def announce(engine: Engine, worker: WorkerEntry) -> Sequence[str]:
    """Enter a worker, or renew its entry and ``last_seen_at``.

    Returns what every step of a kind fails with at this worker (``WorkerView.failing``).

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        failing: Sequence[str] = connection.execute(
            text(f"""
                INSERT INTO workers (id, role, model, queues, slots, state, device, dtype, version,
                                     load_s, warm_up_s)
                VALUES (:id, :role, :model, :queues, :slots, :state, :device, :dtype, :version,
                        :load_s, :warm_up_s)
                ON CONFLICT (id) DO UPDATE
                SET slots = excluded.slots, state = excluded.state, device = excluded.device,
                    dtype = excluded.dtype, version = excluded.version, load_s = excluded.load_s,
                    warm_up_s = excluded.warm_up_s, last_seen_at = clock_timestamp()
                RETURNING {_FAILING}
            """),  # noqa: S608 - the variable part is a constant
            {
                "id": worker.id,
                "role": worker.role,
                "model": worker.model,
                "queues": list(worker.queues),
                "slots": worker.slots,
                "state": worker.state,
                "device": worker.device,
                "dtype": worker.dtype,
                "version": worker.version,
                "load_s": worker.load_s,
                "warm_up_s": worker.warm_up_s,
            },
        ).scalar_one()
        return failing


def note_success(engine: Engine, worker_id: str, kind: StepKind) -> None:
    """Say that the worker has done a step of the kind: not every one fails.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        connection.execute(
            text("""
                INSERT INTO worker_kinds (worker_id, kind, proven, failures)
                SELECT id, :kind, true, 0 FROM workers WHERE id = :id
                ON CONFLICT (worker_id, kind) DO UPDATE
                SET proven = true, failures = 0, bug = NULL, reason = NULL
            """),
            {"id": worker_id, "kind": kind},
        )


def note_bug(engine: Engine, worker_id: str, kind: StepKind, bug: str, reason: str) -> int:
    """Say that a step of the kind ended with an unexpected error at the worker.

    Returns how many did so in a row in this way; 0 once a step of the kind has succeeded there.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        times: int | None = connection.execute(
            text("""
                INSERT INTO worker_kinds AS known (worker_id, kind, proven, bug, failures, reason)
                SELECT id, :kind, false, :bug, 1, :reason FROM workers WHERE id = :id
                ON CONFLICT (worker_id, kind) DO UPDATE
                SET bug = excluded.bug, reason = excluded.reason,
                    failures = CASE WHEN known.bug = excluded.bug THEN known.failures + 1 ELSE 1 END
                WHERE NOT known.proven
                RETURNING failures
            """),
            {"id": worker_id, "kind": kind, "bug": bug, "reason": reason},
        ).scalar_one_or_none()
        return times or 0


def withdraw(engine: Engine, worker_id: str) -> None:
    """Remove a worker that stops in order.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        _remove(connection, "id = :id", "clock_timestamp()", {"id": worker_id})


def name_suspect(engine: Engine, worker_id: str, step_id: int | None) -> None:
    """Say which step the worker's model hears alone from now on, or that it is over.

    If the worker dies or hangs meanwhile, that step is to blame, and no other that it holds.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        connection.execute(
            text("UPDATE workers SET suspect_step = :step_id WHERE id = :id"),
            {"id": worker_id, "step_id": step_id},
        )


def forget_dead_workers(engine: Engine, *, silent_s: float) -> int:
    """Remove the workers not heard of for ``silent_s``; returns how many."""
    silent = "last_seen_at < clock_timestamp() - make_interval(secs => :silent_s)"
    with begin(engine) as connection:
        return _remove(connection, silent, "last_seen_at", {"silent_s": silent_s})


def _remove(
    connection: Connection, condition: str, seen_at: str, parameters: Mapping[str, object]
) -> int:
    """Remove workers, and note when they last served their queues; returns how many.

    One that never was ready has served none.
    """
    removed = connection.execute(
        text(f"""
            WITH gone AS (
                DELETE FROM workers WHERE {condition} RETURNING state, queues, {seen_at} AS seen_at
            ), noted AS (
                INSERT INTO served_queues (queue, last_served_at)
                SELECT queue, max(seen_at) FROM gone CROSS JOIN unnest(queues) AS queue
                WHERE state = 'ready' GROUP BY queue ORDER BY queue
                ON CONFLICT (queue) DO UPDATE SET last_served_at = greatest(
                    served_queues.last_served_at, excluded.last_served_at
                )
            )
            SELECT count(*) FROM gone
        """),  # noqa: S608 - the variable parts are constants
        parameters,
    )
    return int(removed.scalar_one())


def live_workers(engine: Engine, *, live_s: float) -> list[WorkerView]:
    """Return the workers heard of within ``live_s``.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        rows = connection.execute(
            text(f"""
                SELECT id, role, model, queues, slots, state, device, dtype, version, load_s,
                       warm_up_s, started_at, last_seen_at, {_FAILING}
                FROM workers
                WHERE last_seen_at > clock_timestamp() - make_interval(secs => :live_s)
                ORDER BY role, model, id
            """),  # noqa: S608 - the variable part is a constant
            {"live_s": live_s},
        ).mappings()
        return [WorkerView(**row) for row in rows]


def served_models(engine: Engine, *, within_s: float) -> frozenset[str]:
    """Return the ids of the models that a worker has served, or begun to load, within ``within_s``.

    Also where it has stopped or was forgotten since.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        queues = connection.execute(
            text("""
                SELECT queue FROM workers CROSS JOIN unnest(queues) AS queue
                WHERE last_seen_at > clock_timestamp() - make_interval(secs => :within_s)
                UNION
                SELECT queue FROM served_queues
                WHERE last_served_at > clock_timestamp() - make_interval(secs => :within_s)
            """),
            {"within_s": within_s},
        ).scalars()
        return frozenset(model for queue in queues if (model := queue_model(queue)) is not None)


def busy_workers(engine: Engine, tenant: str, *, live_s: float) -> list[BusyWorker]:
    """Return the workers heard of within ``live_s``, and the steps that they hold leases of.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    workers = live_workers(engine, live_s=live_s)
    with begin(engine) as connection:
        rows = connection.execute(
            text("""
                SELECT split_part(lease_owner, :child, 1) AS worker, tenant = :tenant AS own,
                       job_id, kind, idx, attempt, claimed_at AS since
                FROM steps WHERE state = 'running' ORDER BY claimed_at, id
            """),
            {"child": _CHILD, "tenant": tenant},
        ).all()
    own: dict[str, list[RunningStep]] = {}
    others: Counter[str] = Counter()
    for row in rows:
        if row.own:
            step = RunningStep(row.job_id, StepKind(row.kind), row.idx, row.attempt, row.since)
            own.setdefault(row.worker, []).append(step)
        else:
            others[row.worker] += 1
    return [
        BusyWorker(
            **{field.name: getattr(worker, field.name) for field in fields(worker)},
            steps=own.get(worker.id, ()),
            other_steps=others[worker.id],
        )
        for worker in workers
    ]


def model_states(workers: Iterable[WorkerEntry]) -> dict[str, ModelState]:
    """Return how far each model is that has a worker; the others are 'absent'."""
    states: dict[str, ModelState] = {}
    for worker in workers:
        if worker.model is not None and states.get(worker.model) != "ready":
            states[worker.model] = worker.state
    return states
