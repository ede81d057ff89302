"""The registry of workers, and when each queue was last served."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Engine

from shared.infra.database import EVERY_TENANT, read, single, text
from shared.infra.errors import WorkerNotDrainable, WorkerNotFound
from shared.store.queues import queue_model
from shared.store.states import StepKind

WorkerState = Literal["loading", "ready", "unloaded", "drained"]
"""A ``loading`` worker takes nothing yet, or has begun to load its model again. An ``unloaded`` one
was idle, and loads its model for the next work. A ``drained`` one claims nothing until somebody
resumes it; what it has in hand it finishes."""
ModelState = Literal["ready", "loading", "unloaded", "absent"]
"""The furthest state of any worker of a model."""
_FURTHEST: tuple[ModelState, ...] = ("ready", "loading", "unloaded")

UNDRAINABLE = "beat"
"""The role that cannot be drained: nobody else sweeps."""
FAILURES = 2
"""Equal unexpected errors in a row after which a worker that did no such step counts as failing."""
SERVED_LATELY_S = 900.0
"""How long a model counts as served after its last worker was seen: longer than a restart."""

_CHILD = "/"
"""Separates a worker's id and the number of its process; no host name has it."""

_FAILING = f"""
    ARRAY(
        SELECT reason FROM worker_kinds
        WHERE worker_id = workers.id AND failures >= {FAILURES} ORDER BY kind
    ) AS failing
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class WorkerEntry:
    """A worker's own entry."""

    id: str
    role: str
    model: str | None
    queues: Sequence[str]
    slots: int
    """Claims at once, of a step or a batch of chunks each; 0 until a model is loaded first."""
    state: WorkerState
    device: str
    dtype: str | None
    """Of a model worker; None until the model is loaded."""
    version: str
    load_s: float | None
    """Of the model, the last time."""
    warm_up_s: float | None
    """Of its first inference then."""
    sandbox: Mapping[str, Any] | None = None
    """Of a worker that decodes media: what ``holds`` for its decoders, and what it ``lacks``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView(WorkerEntry):
    """A worker as seen from outside."""

    started_at: datetime
    last_seen_at: datetime
    failing: Sequence[str]
    """One sentence for each kind of step that always fails there."""


@dataclass(frozen=True, slots=True)
class RunningStep:
    """A step that a worker holds."""

    job_id: UUID
    kind: StepKind
    idx: int
    attempt: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyWorker(WorkerView):
    """A worker and the steps that it holds."""

    steps: Sequence[RunningStep]
    """Of the asking tenant."""
    other_steps: int
    """Number of other tenants' steps."""


def child_id(worker_id: str, number: str) -> str:
    """Return the owner's name under which one of a worker's processes claims steps."""
    return f"{worker_id}{_CHILD}{number}"


def parent_id(owner: str) -> str:
    """Return the id of the worker whose process claims steps as ``owner``."""
    return owner.partition(_CHILD)[0]


@dataclass(frozen=True, slots=True)
class Announced:
    """What a worker learns as it announces itself."""

    failing: Sequence[str]
    """As ``WorkerView.failing``."""
    drained: bool
    """Whether it is to claim nothing."""


def announce(engine: Engine, worker: WorkerEntry) -> Announced:
    """Insert or renew a worker's entry."""
    with single(engine) as connection:
        row = connection.execute(
            text(f"""
                INSERT INTO workers (id, role, model, queues, slots, state, device, dtype, version,
                                     load_s, warm_up_s, sandbox)
                VALUES (:id, :role, :model, :queues, :slots, :state, :device, :dtype, :version,
                        :load_s, :warm_up_s, CAST(:sandbox AS jsonb))
                ON CONFLICT (id) DO UPDATE
                SET slots = excluded.slots, device = excluded.device,
                    state = CASE WHEN workers.drained AND excluded.state <> 'loading'
                                 THEN 'drained' ELSE excluded.state END,
                    dtype = excluded.dtype, version = excluded.version, load_s = excluded.load_s,
                    warm_up_s = excluded.warm_up_s, sandbox = excluded.sandbox,
                    last_seen_at = clock_timestamp()
                RETURNING {_FAILING}, drained
            """),  # noqa: S608 - the variable part is a constant
            asdict(worker)
            | {
                "queues": list(worker.queues),
                "sandbox": None if worker.sandbox is None else json.dumps(worker.sandbox),
            },
        ).one()
        return Announced(row.failing, row.drained)


def set_drained(engine: Engine, worker_id: str, *, drained: bool, live_s: float) -> WorkerView:
    """Ready -> drained, or back; a loading worker is drained as soon as it is ready.

    It learns of that by its next heartbeat.

    Raises:
        WorkerNotFound: there is no such worker, or it was not seen within ``live_s``.
        WorkerNotDrainable: it is the one that sweeps.
    """
    with single(engine) as connection:
        row = connection.execute(
            text("""
                UPDATE workers
                SET drained = :drained AND role <> :undrainable,
                    state = CASE WHEN state = 'loading' OR role = :undrainable THEN state
                                 WHEN :drained THEN 'drained' ELSE 'ready' END
                WHERE id = :id
                  AND last_seen_at > clock_timestamp() - make_interval(secs => :live_s)
                RETURNING role
            """),
            {"id": worker_id, "drained": drained, "undrainable": UNDRAINABLE, "live_s": live_s},
        ).one_or_none()
    if row is not None and row.role == UNDRAINABLE:
        raise WorkerNotDrainable(f"a {UNDRAINABLE} worker sweeps, which nobody else does")
    for worker in live_workers(engine, live_s=live_s) if row is not None else ():
        if worker.id == worker_id:
            return worker
    raise WorkerNotFound(f"there is no worker {worker_id}")


def note_success(engine: Engine, worker_id: str, kind: StepKind) -> None:
    """Note that the worker has done a step of the kind, so it does not always fail."""
    with single(engine) as connection:
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
    """Note that a step of the kind met an unexpected error at the worker.

    Returns how many did in a row with the same ``bug``; 0 once a step of the kind succeeded there.
    """
    with single(engine) as connection:
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
    """Remove the entry of a worker that stops in order."""
    with single(engine) as connection:
        _remove(connection, "id = :id", "clock_timestamp()", {"id": worker_id})


def name_suspect(engine: Engine, workers: Sequence[str], step_id: int | None) -> None:
    """Note the step that a model hears alone now in the process of these workers; None: no more.

    If it dies or hangs meanwhile, that step is to blame and not the others that they hold.
    """
    with single(engine) as connection:
        connection.execute(
            text("UPDATE workers SET suspect_step = :step_id WHERE id = ANY(:ids)"),
            {"ids": list(workers), "step_id": step_id},
        )


def forget_dead_workers(engine: Engine, *, silent_s: float) -> int:
    """Remove the workers not seen for ``silent_s``; returns their number."""
    silent = "last_seen_at < clock_timestamp() - make_interval(secs => :silent_s)"
    with single(engine) as connection:
        return _remove(connection, silent, "last_seen_at", {"silent_s": silent_s})


def _remove(
    connection: Connection, condition: str, seen_at: str, parameters: Mapping[str, object]
) -> int:
    """Remove workers and note when they last served their queues; returns their number.

    A worker that has not loaded its model for the first time has served none.
    """
    removed = connection.execute(
        text(f"""
            WITH gone AS (
                DELETE FROM workers WHERE {condition}
                RETURNING state <> 'loading' OR load_s IS NOT NULL AS has_served, queues,
                          {seen_at} AS seen_at
            ), noted AS (
                INSERT INTO served_queues (queue, last_served_at)
                SELECT queue, max(seen_at) FROM gone CROSS JOIN unnest(queues) AS queue
                WHERE has_served GROUP BY queue ORDER BY queue
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
    """Return the workers seen within ``live_s``."""
    with read(engine) as connection:
        rows = connection.execute(
            text(f"""
                SELECT id, role, model, queues, slots, state, device, dtype, version, load_s,
                       warm_up_s, sandbox, started_at, last_seen_at, {_FAILING}
                FROM workers
                WHERE last_seen_at > clock_timestamp() - make_interval(secs => :live_s)
                ORDER BY role, model, id
            """),  # noqa: S608 - the variable part is a constant
            {"live_s": live_s},
        ).mappings()
        return [WorkerView(**row) for row in rows]


def served_models(engine: Engine, *, within_s: float) -> frozenset[str]:
    """Return the models that a worker has served or begun to load within ``within_s``.

    The worker may have stopped since.
    """
    with read(engine) as connection:
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
    """Return the workers seen within ``live_s`` and the steps that they hold."""
    workers = live_workers(engine, live_s=live_s)
    with read(engine, EVERY_TENANT) as connection:
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
        BusyWorker(**asdict(worker), steps=own.get(worker.id, ()), other_steps=others[worker.id])
        for worker in workers
    ]


def model_states(workers: Iterable[WorkerEntry]) -> dict[str, ModelState]:
    """Return the state of each model that has a worker; the others are 'absent'.

    So are those whose workers are all drained.

    Models that tell speakers apart transcribe nothing, so they are none of these.
    """
    found = {(each.model, each.state) for each in workers if each.role == "model"}
    return {
        model: state
        for state in reversed(_FURTHEST)
        for model, current in found
        if current == state and model is not None
    }
