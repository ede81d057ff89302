"""News of jobs between processes: which ones have changed and how far they are, as it happens.

Whoever changes a job announces it within the transaction. After the commit the process's sender, a
thread, notifies Postgres' listeners of all jobs that changed since its last round, in one statement
of its own: transactions that notify commit one after the other, under a lock of the whole server,
and no transaction of a job shall wait for that.

News may be lost: with a process that is killed before it has sent them, while a listener has no
connection, or because a pooler stands before Postgres (LISTEN does not pass through one that pools
transactions). They may also overtake each other. So listeners keep the latest news of a job, and
look by themselves every few seconds.
"""

import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy import URL, Connection, Engine, text

from shared.infra.database import after_commit, listen, read
from shared.infra.errors import DatabaseUnavailable
from shared.store.states import ACTIVE_JOB_STATES, JobState

log = logging.getLogger(__name__)

CHANNEL = "longhand_jobs"
_JOBS_PER_MESSAGE = 100
"""Of up to 67 characters each; a message may have 8,000 bytes."""
_IDLE_S = 30.0
"""How long a sender's thread waits for news before it ends; the next news start another."""
_RECONNECT_S = 1.0


@dataclass(frozen=True, slots=True)
class Glimpse:
    """As much of a job as tells whether there is news."""

    ended: bool
    last_event: int


News = Mapping[UUID, Glimpse | None]
"""By job; None: it does not exist any more."""


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


_JOBS = """
    SELECT n, asked.id, state, last_event
    FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS asked (id, n)
    LEFT JOIN jobs ON jobs.id = asked.id
"""


def look_at_jobs(engine: Engine, job_ids: Collection[UUID]) -> News:
    """Return how far these jobs are. Of any tenant.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with read(engine) as connection:
        rows = connection.execute(text(_JOBS), {"ids": list(job_ids)})
        return {row.id: _glimpse(row.state, row.last_event) for row in rows}


def _glimpse(state: str | None, last_event: int | str) -> Glimpse | None:
    if not state:
        return None
    return Glimpse(JobState(state) not in ACTIVE_JOB_STATES, int(last_event))


def _notify(engine: Engine, job_ids: Collection[UUID]) -> None:
    with read(engine) as connection:
        connection.execute(
            text(f"""
                SELECT pg_notify(:channel, string_agg(job, ' '))
                FROM (
                    SELECT n, concat_ws(',', id, coalesce(state, ''), coalesce(last_event, 0))
                               AS job
                    FROM ({_JOBS}) AS changed
                ) AS news
                GROUP BY n / :jobs_per_message
            """),  # noqa: S608 - a constant
            {
                "channel": CHANNEL,
                "ids": list(job_ids),
                "jobs_per_message": _JOBS_PER_MESSAGE,
            },
        )


def _read_message(message: str) -> News:
    jobs = (job.split(",") for job in message.split())
    return {UUID(job_id): _glimpse(state, last_event) for job_id, state, last_event in jobs}


class NewsListener:
    """Hears news of jobs, on a connection of its own; connects anew when it breaks."""

    def __init__(self, engine: Engine, hear: Callable[[News], None]) -> None:
        """Listen in a thread, which calls ``hear`` with the news."""
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
                self._hear(_read_message(message))
