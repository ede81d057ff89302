"""The order in which jobs are listed: whoever has read the list misses no job that comes later."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from sqlalchemy import Engine, event
from uuid_utils.compat import uuid7

from harness.database.interleaving import waiting_sessions
from harness.jobs.job_store import add_job, new_job
from harness.programs.workers import wait_until
from shared.infra.database import make_engine
from shared.infra.settings import Settings
from shared.store.jobs.create import create_job
from shared.store.jobs.delete import delete_job
from shared.store.jobs.read import list_jobs


def listed(database: Engine, *, before: int | None = None) -> list[UUID]:
    return [job.id for job in list_jobs(database, "default", limit=10, before=before)]


def test_a_job_whose_upload_took_longer_is_listed_above_those_committed_meanwhile(
    database: Engine,
) -> None:
    slow, quick = uuid7(), uuid7()  # given as uploads begin

    for job_id in (quick, slow):
        create_job(database, new_job(job_id), max_attempts=1)

    assert listed(database) == [slow, quick]


def test_a_page_waits_for_a_job_that_has_its_place_and_is_not_committed(
    database: Engine, settings: Settings
) -> None:
    committing, go_on = threading.Event(), threading.Event()
    held_up = make_engine(settings)

    @event.listens_for(held_up, "commit")
    def hold_up(connection: object) -> None:
        committing.set()
        assert go_on.wait(60)

    first, other = new_job(), new_job(tenant="somebody else")
    with ThreadPoolExecutor(2) as pool:
        created = pool.submit(create_job, held_up, first, max_attempts=1)
        assert committing.wait(60)
        second = add_job(database)
        create_job(database, other, max_attempts=1)
        page = pool.submit(listed, database)
        wait_until(lambda: waiting_sessions(database) == 1)
        # Other tenants do not wait, and pages that are continued do not.
        assert [job.id for job in list_jobs(database, "somebody else", limit=9)] == [other.id]
        assert listed(database, before=1) == []
        go_on.set()
        created.result()
        assert page.result() == [second, first.id]
    held_up.dispose()


def test_a_cursor_outlives_its_job(database: Engine) -> None:
    ids = [add_job(database) for _ in range(3)]
    last = list_jobs(database, "default", limit=2)[-1]

    delete_job(database, "default", last.id, max_attempts=1)

    assert last.id == ids[1]
    assert listed(database, before=last.first_event) == [ids[0]]
