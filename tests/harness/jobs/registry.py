"""Workers that are in the registry alone, for tests that need them to be there and no more."""

from sqlalchemy import Engine, text

from shared.store.queues import CPU_QUEUE, DELIVER_QUEUE, FETCH_QUEUE, LARGE_QUEUE, model_queue
from shared.store.workers import WorkerEntry, WorkerState, announce

_QUEUES = {
    "cpu": (CPU_QUEUE, LARGE_QUEUE, FETCH_QUEUE),
    "deliver": (DELIVER_QUEUE,),
    "beat": ("sweep",),
}


def enter_worker(
    database: Engine,
    role: str = "model",
    model: str | None = None,
    *,
    slots: int = 2,
    state: WorkerState = "ready",
    started_s_ago: float = 0.0,
    seen_s_ago: float = 0.0,
) -> str:
    """Enter a worker that was last heard of so long ago; return its id."""
    worker_id = f"{role}-{model}"
    announce(
        database,
        WorkerEntry(
            id=worker_id,
            role=role,
            model=model,
            queues=_QUEUES[role] if model is None else (model_queue(model),),
            slots=slots,
            state=state,
            device="cpu",
            dtype=None,
            version="test",
            load_s=None,
            warm_up_s=None,
        ),
    )
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE workers
                SET started_at = clock_timestamp() - make_interval(secs => :started),
                    last_seen_at = clock_timestamp() - make_interval(secs => :seen)
                WHERE id = :id
            """),
            {"id": worker_id, "started": max(started_s_ago, seen_s_ago), "seen": seen_s_ago},
        )
    return worker_id
