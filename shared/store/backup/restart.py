"""A restored database begins as after a crash of everything: nobody holds anything any more."""

from sqlalchemy import Connection, text

from shared.store.steps.unfinished import give_back_all


def begin_anew(connection: Connection) -> None:
    """Workers are gone, their steps due, and uploads under way forgotten.

    Queues count as served until now, so that no job fails before workers have had time to come.
    """
    connection.execute(
        text("""
            INSERT INTO served_queues (queue, last_served_at)
            SELECT DISTINCT unnest(queues), statement_timestamp() FROM workers
            ON CONFLICT (queue) DO UPDATE SET last_served_at = excluded.last_served_at
        """)
    )
    connection.execute(text("DELETE FROM workers"))
    give_back_all(connection)
    # The parts that the clients have sent are in no backup.
    connection.execute(text("DELETE FROM uploads WHERE state = 'open'"))
