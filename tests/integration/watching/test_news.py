"""News of jobs: who is told of a change, when, and what becomes of news that are lost."""

import os
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import Engine, text

from api import resources
from api.app import create_app, end_waits
from api.native import events
from api.watch import Watcher
from harness.clients.streams import events_of, read_until
from harness.database.statements import seen_by
from harness.jobs.job_store import add_job
from harness.programs.workers import wait_until
from harness.servers.api_server import api, confined, serving
from shared.infra.database import begin, make_engine
from shared.infra.driver import Driver
from shared.infra.settings import Settings
from shared.store import news
from shared.store.jobs.cancel import cancel_job
from shared.store.news import Glimpse, NewsListener, announce, look_at_jobs

pytestmark = pytest.mark.usefixtures("database")


@contextmanager
def hearing(engine: Engine) -> Iterator[set[UUID]]:
    """Listen; the set, into which all comes that is heard, is given once anything is heard."""
    heard: set[UUID] = set()
    listener = NewsListener(engine, heard.update)  # of a mapping, its keys
    try:
        probe = uuid4()
        wait_until(lambda: change(engine, probe) or probe in heard)
        yield heard
    finally:
        listener.close()


def change(engine: Engine, job_id: UUID, error: Exception | None = None) -> None:
    with begin(engine) as connection:
        announce(connection, job_id)
        if error is not None:
            raise error


def test_a_change_is_told_after_its_commit_and_a_rollback_is_not(database: Engine) -> None:
    committed, undone, last = uuid4(), uuid4(), uuid4()
    with hearing(database) as heard:
        with pytest.raises(KeyError):
            change(database, undone, KeyError())
        change(database, committed)
        wait_until(lambda: committed in heard)
        change(database, last)
        wait_until(lambda: last in heard)
    assert undone not in heard


def test_changes_while_news_are_sent_are_one_further_statement_outside_of_any_transaction(
    settings: Settings, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_engine(settings, answer_s=45.0)  # by which its connections are known
    sending, go_on = threading.Event(), threading.Event()
    in_transactions: list[bool] = []

    def hold(statement: str, connection: Driver) -> None:
        if "pg_notify" in statement and connection.answer_s == 45.0:
            in_transactions.append(not connection.single)
            sending.set()
            assert go_on.wait(60)

    changed = [uuid4() for _ in range(500)]
    with hearing(database) as heard, seen_by(hold):
        monkeypatch.setattr(news, "_senders", {})  # the next one sends through this engine
        change(own, changed[0])
        assert sending.wait(60)
        for job_id in changed[1:]:
            change(own, job_id)
        go_on.set()
        wait_until(lambda: heard.issuperset(changed))
    assert in_transactions == [False, False]
    own.dispose()


def test_a_forked_child_sends_its_own_news(settings: Settings, database: Engine) -> None:
    in_parent, in_child = uuid4(), uuid4()
    with hearing(database) as heard:
        change(database, in_parent)  # now the parent has a sender, and its thread
        wait_until(lambda: in_parent in heard)
        child = os.fork()
        if child == 0:
            send_and_exit(settings, in_child)
        wait_until(lambda: in_child in heard)
        os.waitpid(child, 0)


def send_and_exit(settings: Settings, job_id: UUID) -> None:
    sent, notify = threading.Event(), news._notify

    def notify_and_tell(engine: Engine, job_ids: Collection[UUID]) -> None:
        notify(engine, job_ids)
        sent.set()

    news._notify = notify_and_tell
    change(make_engine(settings), job_id)
    sent.wait(60)
    os._exit(0)


def test_a_listener_whose_connection_was_ended_listens_on_another(database: Engine) -> None:
    later = uuid4()
    with hearing(database) as heard:
        with begin(database) as connection:
            ended = connection.execute(
                text("""
                    SELECT count(pg_terminate_backend(pid, 20000)) FROM pg_stat_activity
                    WHERE query LIKE 'LISTEN%'
                """)
            ).scalar_one()
        assert ended
        wait_until(lambda: change(database, later) or later in heard)


def test_news_tell_how_far_each_job_is(database: Engine) -> None:
    heard: dict[UUID, Glimpse | None] = {}
    listener = NewsListener(database, heard.update)
    jobs, gone = [add_job(database) for _ in range(news._JOBS_PER_MESSAGE)], uuid4()
    wait_until(lambda: change(database, gone) or gone in heard)
    cancel_job(database, "default", jobs[0], max_attempts=3)
    for job_id in jobs[1:]:
        change(database, job_id)
    wait_until(lambda: heard.keys() >= {*jobs})
    listener.close()
    assert heard == {**look_at_jobs(database, jobs), gone: None}
    assert [found.ended for job_id in jobs if (found := heard[job_id])] == [True, *[False] * 99]


@pytest.fixture
def no_further_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that read what they have no news of so late that no test waits for it."""
    monkeypatch.setattr(events, "LOOK_AGAIN_S", 1000.0)


@pytest.fixture
def slow_looks(monkeypatch: pytest.MonkeyPatch, no_further_looks: None) -> None:
    """Looks at watched jobs for which no test waits."""
    monkeypatch.setattr(resources, "Watcher", partial(Watcher, interval_s=1000.0))


def listeners(database: Engine, job_id: UUID) -> int:
    """How many sessions listen that began after the job was made."""
    with begin(database) as connection:
        found = connection.execute(
            text("""
                SELECT count(*) FROM pg_stat_activity
                WHERE query LIKE 'LISTEN%' AND state = 'idle'
                  AND backend_start > (SELECT created_at FROM jobs WHERE id = :id)
            """),
            {"id": job_id},
        )
        return int(found.scalar_one())


@pytest.mark.usefixtures("slow_looks")
def test_streams_and_waits_are_told_of_a_change_and_need_not_look(
    settings: Settings, database: Engine
) -> None:
    streamed, waited = add_job(database), add_job(database)
    app = create_app(confined(settings))
    with (
        serving(app, on_stop=partial(end_waits, app)) as url,
        httpx.Client(base_url=url, timeout=90) as client,
        ThreadPoolExecutor(1) as pool,
        events_of(client, streamed) as source,
    ):
        lines = source.response.iter_lines()
        read_until(lines, '"state":"queued"')
        waiting = pool.submit(client.get, f"/jobs/{waited}", params={"wait": 60})
        wait_until(lambda: waited in app.state.resources.watcher._watched)
        wait_until(lambda: listeners(database, waited))
        began = time.monotonic()
        for job_id in (streamed, waited):
            cancel_job(database, "default", job_id, max_attempts=3)
        read_until(lines, '"state":"canceled"')
        assert waiting.result().json()["state"] == "canceled"
        assert time.monotonic() - began < 30  # the poll would look after 60 s


@pytest.mark.usefixtures("no_further_looks")
def test_news_that_are_lost_are_found_by_looking(
    settings: Settings, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a pooler before Postgres, through which nobody listens."""
    monkeypatch.setattr(news, "_notify", lambda *_: None)
    monkeypatch.setattr(resources, "Watcher", partial(Watcher, interval_s=0.1))
    job_id = add_job(database)
    with api(settings) as client, events_of(client, job_id) as source:
        lines = source.response.iter_lines()
        read_until(lines, '"state":"queued"')
        cancel_job(database, "default", job_id, max_attempts=3)
        read_until(lines, '"state":"canceled"')
