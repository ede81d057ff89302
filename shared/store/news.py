"""News between processes: which jobs have changed and how far they are; whose limits have changed.

A transaction that changes a job announces it. After the commit a thread notifies Postgres'
listeners of all jobs that changed since its last round, in one statement of its own: transactions
that notify commit one after the other, under a lock of the whole server, and no job's transaction
may wait for that.

News may be lost: when a process is killed before it has sent them, while a listener reconnects, or
behind a pooler that pools transactions, through which LISTEN does not pass. They may also overtake
each other. So listeners keep the latest news of a job, and query every few seconds.
"""

import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy import URL, Connection, Engine

from shared.infra.background import Background
from shared.infra.database import EVERY_TENANT, after_commit, listen, read, text
from shared.infra.errors import DatabaseUnavailable
from shared.store.states import ACTIVE_JOB_STATES, JobState

log = logging.getLogger(__name__)

CHANNEL = "longhand_jobs"
TENANTS_CHANNEL = "longhand_tenants"
"""Its messages are ids of tenants whose limits have changed."""
_JOBS_PER_MESSAGE = 100
"""Of up to 67 characters each; a message may have 8,000 bytes."""
_RECONNECT_S = 1.0


@dataclass(frozen=True, slots=True)
class Glimpse:
    """How far a job is."""

    ended: bool
    last_event: int


News = Mapping[UUID, Glimpse | None]
"""By job; None: it does not exist."""


def announce(connection: Connection, job_id: UUID) -> None:
    """Tell the job's watchers that it has changed, after the commit."""
    after_commit(connection, partial(_send, connection.engine, job_id))


def _send(engine: Engine, job_id: UUID) -> None:
    sender = _senders.get(engine.url)
    if sender is None:
        sender = _senders.setdefault(engine.url, NewsSender(engine))
    sender.send(job_id)


class NewsSender:
    """Sends news of jobs from a thread of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed: set[UUID] = set()
        self._lock = threading.Lock()
        self._thread = Background("news", self._send_changed)

    def send(self, job_id: UUID) -> None:
        """Send news of a job, soon; returns at once."""
        with self._lock:
            self._changed.add(job_id)
        self._thread.ring()

    def _send_changed(self) -> None:
        with self._lock:
            changed, self._changed = self._changed, set()
        if not changed:
            return
        try:
            _notify(self._engine, changed)
        except DatabaseUnavailable as error:
            log.debug("%s: the news of %d jobs are lost", error, len(changed))


_senders: dict[URL, NewsSender] = {}
"""Those of this process; a forked child has none of its parent's threads."""
os.register_at_fork(after_in_child=_senders.clear)

_JOBS = """
    SELECT n, asked.id, state, last_event
    FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS asked (id, n)
    LEFT JOIN jobs ON jobs.id = asked.id
"""


def look_at_jobs(engine: Engine, job_ids: Collection[UUID]) -> News:
    """Return how far these jobs are, of any tenant."""
    with read(engine, EVERY_TENANT) as connection:
        rows = connection.execute(text(_JOBS), {"ids": list(job_ids)})
        return {row.id: _glimpse(row.state, row.last_event) for row in rows}


def _glimpse(state: str | None, last_event: int | str) -> Glimpse | None:
    if not state:
        return None
    return Glimpse(JobState(state) not in ACTIVE_JOB_STATES, int(last_event))


def _notify(engine: Engine, job_ids: Collection[UUID]) -> None:
    with read(engine, EVERY_TENANT) as connection:
        connection.execute(
            text(f"""
                SELECT pg_notify(:channel, string_agg(job, ' '))
                FROM (
                    SELECT n, concat_ws(',', id, coalesce(state, ''), coalesce(last_event, 0))
                               AS job
                    FROM ({_JOBS}) AS changed
                ) AS news
                GROUP BY n / :per_message
            """),  # noqa: S608 - a constant
            {"channel": CHANNEL, "ids": list(job_ids), "per_message": _JOBS_PER_MESSAGE},
        )


def _read_message(message: str) -> News:
    jobs = (job.split(",") for job in message.split())
    return {UUID(job_id): _glimpse(state, last_event) for job_id, state, last_event in jobs}


def _ignore(_tenant: str) -> None:
    """Hear nothing of tenants."""


class NewsListener:
    """Hears news on a connection of its own, which it replaces when it breaks."""

    def __init__(
        self,
        engine: Engine,
        hear: Callable[[News], None],
        hear_of_tenant: Callable[[str], None] = _ignore,
    ) -> None:
        """Start a thread that calls ``hear`` with news of jobs.

        It calls ``hear_of_tenant`` with the id of a tenant whose limits have changed.
        """
        self._engine = engine
        self._hear, self._hear_of_tenant = hear, hear_of_tenant
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
        for messages in listen(self._engine, CHANNEL, TENANTS_CHANNEL):
            self._failing = False
            if self._closing.is_set():
                return
            for channel, message in messages:
                if channel == CHANNEL:
                    self._hear(_read_message(message))
                else:
                    self._hear_of_tenant(message)
