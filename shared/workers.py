"""The registry of living workers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, text

from shared.database import begin


@dataclass(frozen=True, slots=True)
class WorkerEntry:
    """What a worker says of itself."""

    id: str
    role: str
    model: str | None
    queues: Sequence[str]
    slots: int
    device: str
    version: str
    load_s: float | None


@dataclass(frozen=True, slots=True)
class WorkerView(WorkerEntry):
    """A worker as seen from outside."""

    started_at: datetime
    last_seen_at: datetime


def announce(engine: Engine, worker: WorkerEntry) -> None:
    """Enter a worker, or renew its ``last_seen_at``.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        connection.execute(
            text("""
                INSERT INTO workers (id, role, model, queues, slots, device, version, load_s)
                VALUES (:id, :role, :model, :queues, :slots, :device, :version, :load_s)
                ON CONFLICT (id) DO UPDATE SET last_seen_at = clock_timestamp()
            """),
            {
                "id": worker.id,
                "role": worker.role,
                "model": worker.model,
                "queues": list(worker.queues),
                "slots": worker.slots,
                "device": worker.device,
                "version": worker.version,
                "load_s": worker.load_s,
            },
        )


def withdraw(engine: Engine, worker_id: str) -> None:
    """Remove a worker that stops in order.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        connection.execute(text("DELETE FROM workers WHERE id = :id"), {"id": worker_id})


def forget_dead_workers(engine: Engine, *, silent_s: float) -> int:
    """Remove the workers not heard of for ``silent_s``; returns how many."""
    with begin(engine) as connection:
        return connection.execute(
            text("""
                DELETE FROM workers
                WHERE last_seen_at < clock_timestamp() - make_interval(secs => :silent_s)
            """),
            {"silent_s": silent_s},
        ).rowcount


def live_workers(engine: Engine, *, live_s: float) -> list[WorkerView]:
    """Return the workers heard of within ``live_s``.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        rows = connection.execute(
            text("""
                SELECT id, role, model, queues, slots, device, version, load_s,
                       started_at, last_seen_at
                FROM workers
                WHERE last_seen_at > clock_timestamp() - make_interval(secs => :live_s)
                ORDER BY role, model, id
            """),
            {"live_s": live_s},
        ).mappings()
        return [WorkerView(**row) for row in rows]
