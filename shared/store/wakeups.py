"""What becomes due in a transaction is told to workers after its commit."""

from typing import Protocol

from sqlalchemy import Connection, Engine

from shared.infra.database import after_commit

_OPTION = "longhand_wakeups"


class Rings(Protocol):
    """Wakes workers, without waiting for it."""

    def ring(self, queue: str, steps: int) -> None:
        """Say that so many steps of a queue have become due."""
        ...


def connect_wakeups(engine: Engine, wakeups: Rings) -> None:
    """Have what becomes due in the engine's transactions told to these."""
    engine.update_execution_options(**{_OPTION: wakeups})


def ring_after_commit(connection: Connection, queue: str, steps: int) -> None:
    """Wake workers for so many steps of a queue once the transaction is committed.

    Without wake-ups connected to the engine the sweep wakes them.
    """
    wakeups: Rings | None = connection.get_execution_options().get(_OPTION)
    if wakeups is not None:
        after_commit(connection, lambda: wakeups.ring(queue, steps))
