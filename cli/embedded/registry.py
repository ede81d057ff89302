"""Asks Postgres which workers of a stack have sent a heartbeat lately."""

import threading
from typing import TYPE_CHECKING

from pydantic import SecretStr

from shared.infra.settings import get_settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from shared.store.workers import WorkerView


class Registry:
    """Looks at workers by their heartbeats. Threads that use it take turns."""

    def __init__(self, database_url: str) -> None:
        url = SecretStr(database_url)
        self._settings = get_settings().model_copy(update={"database_url": url})
        self._engine: Engine | None = None
        self._turn = threading.Lock()

    def look(self, pid: int) -> bool | None:
        """Return whether the worker process has sent a heartbeat within a lease (``watch.Look``).

        None while the worker is loading, or Postgres does not answer. A frozen Postgres is waited
        for without limit: it has a watch of its own.
        """
        workers = self.workers()
        if workers is None:
            return None
        states = [worker.state for worker in workers if _pid(worker.id) == str(pid)]
        if not states:
            return False
        return None if set(states) == {"loading"} else True

    def workers(self) -> "list[WorkerView] | None":
        """Return the workers that have sent a heartbeat; None: Postgres does not answer."""
        # Imported here, because most runs end before the first look, and SQLAlchemy takes 0.3 s.
        from sqlalchemy.exc import SQLAlchemyError

        from shared.infra.database import make_engine
        from shared.infra.errors import LonghandError
        from shared.store.workers import live_workers

        with self._turn:
            if self._engine is None:
                self._engine = make_engine(self._settings, pool_size=1)
            try:
                return live_workers(self._engine, live_s=self._settings.lease_s)
            except (LonghandError, SQLAlchemyError):
                return None


def _pid(worker_id: str) -> str:
    """Return the pid in a worker's id, ROLE[-MODEL]@HOST-PID-RANDOM; '' in any other."""
    return "".join(worker_id.split("-")[-2:-1])
