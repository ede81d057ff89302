"""Two transactions at once, in an order that the test chooses: both write to ``job_events``."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from sqlalchemy import Engine, text

from harness.programs.workers import wait_until


def waiting_sessions(database: Engine) -> int:
    with database.begin() as connection:
        return int(
            connection.execute(
                text("""
                    SELECT count(*) FROM pg_stat_activity
                    WHERE wait_event_type = 'Lock' AND datname = current_database()
                """)
            ).scalar_one()
        )


@contextmanager
def each_change_held_up(database: Engine) -> Iterator[None]:
    """Stop every change of a job as it writes its event, within its transaction.

    A change that writes no row of ``job_events``, as the completion of chunks, is not stopped.
    """
    with database.begin() as gate:
        gate.execute(text("LOCK TABLE job_events IN SHARE MODE"))
        yield


def interleave(
    database: Engine, first: Callable[[], object], second: Callable[[], object]
) -> list[Future[object]]:
    """Bring ``first`` to the middle of its transaction, start ``second``, then let both go on."""
    with ThreadPoolExecutor(2) as pool, each_change_held_up(database):
        futures = [pool.submit(first)]
        wait_until(lambda: waiting_sessions(database) == 1)
        futures.append(pool.submit(second))
        wait_until(lambda: waiting_sessions(database) == 2)
    return futures
