"""What the log says of refused requests, and what is remembered of a full disk."""

import logging

import pytest

from api.outages import FULL_S, PERIOD_S, Outages
from shared.infra.errors import DatabaseFull, DatabaseUnavailable, StorageUnavailable


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(cause: str) -> DatabaseUnavailable:
    error = DatabaseUnavailable("Postgres cannot be reached")
    error.__cause__ = OSError(f"{cause}\nand more")
    return error


def test_a_cause_is_logged_once_in_a_period_and_counted_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    outages = Outages(clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            outages.note(refused("no route"))
        outages.note(refused("refused"))
        outages.note(StorageUnavailable("the object store cannot be reached"))
        clock.now += PERIOD_S
        outages.note(refused("no route"))
    assert [record.getMessage() for record in caplog.records] == [
        "503 database_unavailable: Postgres cannot be reached: no route",
        "503 database_unavailable: Postgres cannot be reached: refused",
        "503 storage_unavailable: the object store cannot be reached",
        "503 database_unavailable: Postgres cannot be reached: no route (2 more since then)",
    ]


def test_a_disk_counts_as_full_for_a_while_after_it_refused_a_write() -> None:
    clock = Clock()
    outages = Outages(clock)
    outages.note(refused("no route"))
    outages.check()
    outages.note(DatabaseFull("the disk of Postgres is full"))
    with pytest.raises(DatabaseFull):
        outages.check()
    clock.now += FULL_S
    outages.check()
