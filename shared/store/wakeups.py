"""Wake-ups for steps that a transaction makes due, after its commit."""

from collections.abc import Callable

from sqlalchemy import Connection, Engine

from shared.infra.database import after_commit

_OPTION = "longhand_wakeups"


def connect_wakeups(engine: Engine, ring: Callable[[str, int, float], None]) -> None:
    """Call ``ring`` with a queue, the number of steps that a transaction made due, and in how many
    seconds they are. It must not wait for Redis.
    """
    engine.update_execution_options(**{_OPTION: ring})


def ring_after_commit(connection: Connection, queue: str, steps: int, after_s: float = 0.0) -> None:
    """Wake workers for so many steps of a queue, ``after_s`` after the commit.

    If the engine has no wake-ups connected, the sweep wakes workers.
    """
    ring: Callable[[str, int, float], None] | None = connection.get_execution_options().get(_OPTION)
    if ring is not None:
        after_commit(connection, lambda: ring(queue, steps, after_s))
