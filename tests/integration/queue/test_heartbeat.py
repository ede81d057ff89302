"""The thread on which all leases of a process depend."""

from datetime import datetime

import pytest
from sqlalchemy import Engine

from harness.jobs.job_store import add_job, claim, column, expire, missing_table
from harness.programs.workers import wait_until
from shared.infra.errors import LeaseLost
from shared.infra.settings import Settings
from shared.store import steps
from worker.process.heartbeat import Heartbeat


def test_leases_are_renewed_again_after_an_error_that_nobody_expected(
    database: Engine, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    claimed = claim(database, add_job(database), "prepare")
    heartbeat = Heartbeat(database, settings.model_copy(update={"heartbeat_s": 0.1}))

    def lease_until() -> datetime:
        until = column(database, claimed.step_id, "lease_until")
        assert isinstance(until, datetime)
        return until

    with heartbeat.hold([claimed]):
        with missing_table(database, "steps"):
            wait_until(lambda: "unexpected error" in caplog.text)
        before = lease_until()
        wait_until(lambda: lease_until() > before, within_s=60)
    heartbeat.stop()


def test_a_step_lost_and_claimed_again_by_one_worker_is_two_leases(
    database: Engine, settings: Settings
) -> None:
    job_id = add_job(database)
    lost = claim(database, job_id, "prepare")
    expire(database, lost)
    assert steps.reap(database) == 1
    again = claim(database, job_id, "prepare")
    heartbeat = Heartbeat(database, settings.model_copy(update={"heartbeat_s": 0.05}))
    with heartbeat.hold([lost]) as [first], heartbeat.hold([again]) as [second]:
        wait_until(lambda: first.lost, within_s=60)
        with pytest.raises(LeaseLost):
            first.check()
        second.check()
    heartbeat.stop()
