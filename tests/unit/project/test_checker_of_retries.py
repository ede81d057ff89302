"""The checker finds what is wrong about a job that was retried."""

from dataclasses import replace

import pytest

from harness.faults.history import Change, History, Told, pid_of
from harness.faults.replay import Rule
from harness.faults.right_history import (
    AFTER,
    BEFORE,
    FIRST,
    GOOD,
    JOB,
    NOBODY,
    ROWS,
    SECOND,
    SUCCEEDED,
    SWEEPER,
    at,
    broken,
    job,
    step,
    with_changes,
)


def retried(end: str, *first_end: Change) -> History:
    """The job ended so while its chunk was held, was retried and succeeded."""
    changes = [
        *BEFORE,
        step(2, 2, "running", by=FIRST),
        *first_end,
        job(4, "queued", run=2),
        step(4, 2, "queued", 2, attempt=0),
        step(6, 2, "running", 3, by=SECOND, attempt=1),
        job(6.1, "running", run=2),
        step(7, 2, "done", 3, by=SECOND, attempt=1),
        *AFTER[:-1],
        job(8.1, "succeeded", run=2),
    ]
    first = Told(NOBODY, JOB, 1, f"job.{end}", "{}", ())
    return replace(
        with_changes(changes),
        jobs=[replace(SUCCEEDED, run=2)],
        steps=[ROWS[0], replace(ROWS[1], attempt=1, epoch=3), ROWS[2]],
        faults=[],
        told=[first, replace(GOOD.told[0], run=2)],
    )


VOID = step(3, 2, "void", by=FIRST, writer=SWEEPER)
FAILED = retried("failed", step(3, 2, "failed", by=FIRST), job(3, "failed"))
CANCELED = retried("canceled", job(3, "canceled"), VOID)


@pytest.mark.parametrize("history", [FAILED, CANCELED], ids=["failed", "canceled"])
def test_a_retried_job_may_end_once_more_and_no_other_job(history: History) -> None:
    assert broken(history) == set()
    unasked = [each for each in history.changes if each != job(4, "queued", run=2)]
    assert Rule.ILLEGAL in broken(replace(history, changes=unasked))


def changed(history: History, before: Change, *after: Change) -> History:
    """The history with some changes in place of one."""
    changes = [*(each for each in history.changes if each != before), *after]
    return replace(history, changes=sorted(changes, key=lambda each: each.at))


def test_a_step_that_an_ended_job_leaves_to_be_claimed_or_completed_is_found() -> None:
    assert Rule.AFTER_THE_END in broken(changed(CANCELED, VOID))


def test_a_step_void_without_its_jobs_end_is_found() -> None:
    too_early = replace(VOID, transaction="2.9", at=at(2.9))
    assert broken(changed(CANCELED, VOID, too_early)) == {Rule.ILLEGAL}


def test_a_void_step_that_is_written_or_claimed_is_found() -> None:
    for state, rule in (("done", Rule.STALE_WRITE), ("running", Rule.ILLEGAL)):
        late = step(3.5, 2, state, by=FIRST)
        assert {rule, Rule.AFTER_THE_END} <= broken(changed(CANCELED, VOID, VOID, late))


def test_a_retry_that_leaves_the_epoch_as_it_was_is_found() -> None:
    queued = step(4, 2, "queued", 2, attempt=0)
    assert Rule.ILLEGAL in broken(changed(CANCELED, queued, replace(queued, epoch=1)))


def test_a_worker_that_writes_with_its_claim_of_before_the_retry_is_found() -> None:
    stale = step(6.5, 2, "done", 3, by=SECOND, attempt=1, writer=pid_of(FIRST))
    late = sorted([*CANCELED.changes, stale], key=lambda each: each.at)
    assert Rule.STALE_WRITE in broken(replace(CANCELED, changes=late))
