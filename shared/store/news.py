"""News of jobs between processes: which ones have changed, told as it happens.

Whoever changes a job announces it within the transaction. After the commit the process's sender, a
thread, notifies Postgres' listeners of all jobs that changed since its last round, in one statement
of its own: transactions that notify commit one after the other, under a lock of the whole server,
and no transaction of a job shall wait for that.

News may be lost: with a process that is killed before it has sent them, while a listener has no
connection, or because a pooler stands before Postgres (LISTEN does not pass through one that pools
transactions). So who listens also looks by itself every few seconds.
"""

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import islice
from uuid import UUID

from sqlalchemy import URL, Connection, Engine, text

from shared.infra.database import after_commit, listen, read
from shared.infra.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

CHANNEL = "longhand_jobs"
_IDS_PER_MESSAGE = 200
"""Of 33 characters each; a message may have 8,000 bytes."""
_IDLE_S = 30.0
"""How long a sender's thread waits for news before it ends; the next news start another."""
_RECONNECT_S = 1.0


def announce(connection: Connection, job_id: UUID) -> None:
    """Tell those who watch the job that it has changed, once this transaction is committed."""
    after_commit(connection, partial(_send, connection.engine, job_id))


def _send(engine: Engine, job_id: UUID) -> None:
    sender = _senders.get(engine.url)
    if sender is None:
        sender = _senders.setdefault(engine.url, NewsSender(engine))
    sender.send(job_id)


class NewsSender:
    """Sends news of jobs from a thread of its own, which it starts when there are any."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed: set[UUID] = set()
        self._state = threading.Condition()
        self._running = False

    def send(self, job_id: UUID) -> None:
        """Send news of a job, soon; returns at once."""
        with self._state:
            self._changed.add(job_id)
            if self._running:
                self._state.notify()
                return
            self._running = True
        threading.Thread(target=self._run, name="news", daemon=True).start()

    def _run(self) -> None:
        while changed := self._take():
            try:
                _notify(self._engine, changed)
            except DatabaseUnavailable as error:
                log.debug("%s: %d jobs are found changed by those who look", error, len(changed))
            except Exception:  # whatever it was, later news must be sent
                log.exception("unexpected error; news of %d jobs are lost", len(changed))

    def _take(self) -> Collection[UUID]:
        """Wait for news; none after a long while, in which case this thread is to end."""
        with self._state:
            self._state.wait_for(lambda: self._changed, _IDLE_S)
            taken, self._changed = self._changed, set()
            self._running = bool(taken)
            return taken


_senders: dict[URL, NewsSender] = {}
"""Those of this process."""

# A forked child has none of its parent's threads.
os.register_at_fork(after_in_child=_senders.clear)


def _notify(engine: Engine, job_ids: Collection[UUID]) -> None:
    with read(engine) as connection:
        connection.execute(
            text("""
                SELECT pg_notify(:channel, message)
                FROM unnest(CAST(:messages AS text[])) AS message
            """),
            {"channel": CHANNEL, "messages": [*_messages(job_ids)]},
        )


def _messages(job_ids: Collection[UUID]) -> Iterator[str]:
    ids = iter(job_ids)
    while some := [job_id.hex for job_id in islice(ids, _IDS_PER_MESSAGE)]:
        yield " ".join(some)


class NewsListener:
    """Hears which jobs have changed, on a connection of its own; connects anew when it breaks."""

    def __init__(self, engine: Engine, hear: Callable[[Sequence[UUID]], None]) -> None:
        """Listen in a thread, which calls ``hear`` with the ids of jobs that have changed."""
        self._engine = engine
        self._hear = hear
        self._closing = threading.Event()
        self._failing = False
        threading.Thread(target=self._run, name="listener", daemon=True).start()

    def close(self) -> None:
        """Stop listening, within a second."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except DatabaseUnavailable as error:
                if not self._failing:
                    log.warning("%s: news of jobs come late", error)
                self._failing = True
            self._closing.wait(_RECONNECT_S)

    def _listen(self) -> None:
        for messages in listen(self._engine, CHANNEL):
            self._failing = False
            if self._closing.is_set():
                return
            for message in messages:
                self._hear([UUID(job_id) for job_id in message.split()])
