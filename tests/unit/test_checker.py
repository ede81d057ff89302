"""The checker finds what it is for: each rule is broken once here, in a history otherwise right."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from checker import Verdict, check
from history import Event, Fault, History, Job, Received, Recording, Step, Told, pid_of
from replay import Rule

JOB, COPY, NOBODY, TOLD = (UUID(int=number) for number in range(4))
URL = "http://127.0.0.1:9/hook"
START = datetime(2030, 1, 1, tzinfo=UTC)
FIRST, SECOND = "model@host-11-aaaa", "model@host-22-bbbb"
CPU = "cpu@host-33-cccc"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def event(
    seconds: float, name: str, step: int | None = None, epoch: int = 1, by: str = CPU
) -> Event:
    held = step is not None and name != "step.queued"
    return Event(
        id=round(seconds * 10),
        job_id=JOB,
        step_id=step,
        event=name,
        attempt=epoch if held else None,
        epoch=epoch if held else None,
        worker=by if held else None,
        detail=None,
        at=at(seconds),
    )


BEFORE = [
    event(0, "job.queued"),
    event(0.1, "step.queued", 1),
    event(1, "job.running"),
    event(1.1, "step.claimed", 1),
    event(1.2, "step.queued", 2),
    event(1.3, "step.done", 1),
]
REAPED = [
    event(2, "step.claimed", 2, by=FIRST),
    event(6, "step.reaped", 2, by=FIRST),
    event(6.5, "step.claimed", 2, epoch=2, by=SECOND),
]
DONE = event(7, "step.done", 2, epoch=2, by=SECOND)
AFTER = [
    event(7.1, "step.queued", 3),
    event(8, "step.claimed", 3),
    event(8.1, "step.done", 3),
    event(8.2, "job.succeeded"),
]
KILL = Fault("kill model", at(3), at(5), frozenset({11}), kills=True)
ROWS = [
    Step(1, JOB, "prepare", 0, "done", 1, 1),
    Step(2, JOB, "transcribe", 0, "done", 2, 2),
    Step(3, JOB, "finish", 0, "done", 1, 1),
]
SUCCEEDED = Job(
    id=JOB,
    state="succeeded",
    error_code=None,
    original_id=None,
    cached=False,
    chunks_total=1,
    chunks_done=1,
    sha256="abc",
    text="one two",
)
GOOD = History(
    accepted=frozenset({JOB}),
    canceled=frozenset(),
    recordings={"abc": Recording("one two")},
    jobs=[SUCCEEDED],
    steps=ROWS,
    events=[*BEFORE, *REAPED, DONE, *AFTER],
    faults=[KILL],
    told=[Told(TOLD, JOB, 1, "job.succeeded", "{}", ((URL, "delivered"),))],
    received=[Received(str(TOLD), "{}"), Received(str(TOLD), "{}")],
)


def verdict(history: History, *, recovery_s: float = 5) -> Verdict:
    return check(history, lease_s=4, recovery_s=recovery_s)


def broken(history: History) -> set[Rule]:
    return {violation.rule for violation in verdict(history).violations}


def with_events(events: Iterable[Event]) -> History:
    return replace(GOOD, events=sorted(events, key=lambda each: each.at))


def without(*unwanted: Event) -> History:
    return with_events(each for each in GOOD.events if each not in unwanted)


def with_job(**changes: object) -> History:
    return replace(GOOD, jobs=[replace(SUCCEEDED, **changes)])  # type: ignore[arg-type]


def test_a_step_done_again_after_its_worker_was_killed_is_right_and_measured() -> None:
    found = verdict(GOOD)
    assert found.violations == []
    (recovery,) = found.recoveries
    assert recovery.step_id == 2
    assert recovery.requeued == timedelta(seconds=3)
    assert recovery.took == timedelta(seconds=3.5)


def test_a_job_accepted_and_gone_is_lost() -> None:
    assert broken(replace(GOOD, accepted=frozenset({JOB, NOBODY}))) == {Rule.LOST}


def test_a_job_that_has_not_ended_is_lost() -> None:
    assert Rule.LOST in broken(with_job(state="running", text=None))


def test_a_job_nobody_was_told_of_must_end_too() -> None:
    history = replace(with_job(state="queued", text=None), accepted=frozenset())
    assert Rule.LOST in broken(history)


def test_success_without_a_transcript_is_a_loss() -> None:
    assert broken(with_job(text=None)) == {Rule.LOST}


@pytest.mark.parametrize("text", ["one", "one two two", "two one", "one three"])
def test_words_lost_doubled_moved_or_misheard_are_found(text: str) -> None:
    assert broken(with_job(text=text)) == {Rule.WRONG_WORDS}


def test_a_failure_that_was_not_due_is_found() -> None:
    history = with_job(state="failed", error_code="internal_error", text=None)
    assert Rule.WRONG_END in broken(history)


def test_a_failure_that_was_due_must_give_its_reason() -> None:
    poisonous = {"abc": Recording("one two", frozenset({"failed"}), frozenset({"poisonous_input"}))}
    rows = [ROWS[0], replace(ROWS[1], state="failed")]
    failed = replace(
        GOOD,
        recordings=poisonous,
        jobs=[replace(SUCCEEDED, state="failed", error_code="poisonous_input", text=None)],
        steps=rows,
        events=[
            *BEFORE,
            *REAPED,
            event(11, "step.failed", 2, epoch=2, by=SECOND),
            event(11.1, "job.failed"),
        ],
        told=[Told(TOLD, JOB, 1, "job.failed", "{}", ())],
        received=[],
    )
    assert broken(failed) == set()
    other = replace(failed.jobs[0], error_code="internal_error")
    assert broken(replace(failed, jobs=[other])) == {Rule.WRONG_END}


def test_canceled_never_becomes_succeeded() -> None:
    assert broken(replace(GOOD, canceled=frozenset({JOB}))) == {Rule.WRONG_END}
    again = with_events([*GOOD.events, event(6.8, "job.canceled")])
    assert {Rule.TWO_ENDS, Rule.AFTER_THE_END} <= broken(again)


def test_a_cancellation_that_nobody_asked_for_is_found() -> None:
    assert Rule.WRONG_END in broken(with_job(state="canceled", text=None))


def test_two_ends_are_found() -> None:
    assert Rule.TWO_ENDS in broken(with_events([*GOOD.events, event(9, "job.succeeded")]))


def test_a_stale_workers_completion_is_found() -> None:
    stale = event(6.8, "step.done", 2, epoch=1, by=FIRST)
    assert broken(with_events([*GOOD.events, stale])) == {Rule.STALE_WRITE}


def test_a_step_done_twice_is_found() -> None:
    again = replace(DONE, at=at(7.05))
    assert broken(with_events([*GOOD.events, again])) == {Rule.STALE_WRITE}


def test_the_current_epoch_written_by_another_worker_is_found() -> None:
    thief = replace(DONE, worker=FIRST)
    assert Rule.STALE_WRITE in broken(with_events([*BEFORE, *REAPED, thief, *AFTER]))


def test_a_change_of_a_step_after_its_jobs_end_is_found() -> None:
    late = event(9, "step.done", 2, epoch=1, by=FIRST)
    assert broken(with_events([*GOOD.events, late])) == {Rule.STALE_WRITE, Rule.AFTER_THE_END}


def test_a_delivery_comes_after_its_jobs_end() -> None:
    delivered = [
        event(8.3, "step.queued", 4),
        event(9, "step.claimed", 4),
        event(9.1, "step.done", 4),
    ]
    history = replace(
        with_events([*GOOD.events, *delivered]),
        steps=[*ROWS, Step(4, JOB, "deliver", 0, "done", 1, 1)],
    )
    assert broken(history) == set()
    other = replace(history, steps=[*ROWS, Step(4, JOB, "transcribe", 1, "done", 1, 1)])
    assert Rule.AFTER_THE_END in broken(other)


def test_a_claim_of_a_step_that_is_held_is_found() -> None:
    assert Rule.ILLEGAL in broken(without(REAPED[1]))


def test_an_epoch_that_does_not_rise_is_found() -> None:
    same = replace(REAPED[2], epoch=1)
    assert Rule.ILLEGAL in broken(with_events([*BEFORE, *REAPED[:2], same, DONE, *AFTER]))


def test_a_step_queued_twice_is_found() -> None:
    assert Rule.ILLEGAL in broken(with_events([*GOOD.events, event(1.25, "step.queued", 2)]))


def test_an_end_without_a_beginning_is_found() -> None:
    assert Rule.ILLEGAL in broken(without(BEFORE[2]))


def test_an_event_of_an_unknown_kind_is_found() -> None:
    assert Rule.ILLEGAL in broken(with_events([*GOOD.events, event(1.25, "step.blessed", 2)]))


def test_a_row_that_its_history_does_not_explain_is_found() -> None:
    forged = replace(ROWS[1], epoch=3)
    assert broken(replace(GOOD, steps=[ROWS[0], forged, ROWS[2]])) == {Rule.ROWS_DISAGREE}
    assert broken(replace(GOOD, steps=ROWS[:2])) == {Rule.ROWS_DISAGREE}


@pytest.mark.parametrize("count", ["chunks_total", "chunks_done"])
def test_a_counter_that_is_not_the_number_of_its_rows_is_found(count: str) -> None:
    assert broken(with_job(**{count: 2})) == {Rule.ROWS_DISAGREE}


def test_a_step_taken_before_its_lease_ran_out_is_found() -> None:
    assert Rule.EARLY_REAP in {
        violation.rule for violation in check(GOOD, lease_s=5.5, recovery_s=5).violations
    }


def test_work_done_again_needs_a_fault_that_hit_its_holder() -> None:
    assert broken(replace(GOOD, faults=[])) == {Rule.REWORK}
    elsewhere = replace(KILL, pids=frozenset({22}))
    assert broken(replace(GOOD, faults=[elsewhere])) == {Rule.REWORK}
    too_early = replace(KILL, began=at(0), ended=at(1))
    assert broken(replace(GOOD, faults=[too_early])) == {Rule.REWORK}


def test_a_step_that_was_released_may_be_claimed_again() -> None:
    released = replace(REAPED[1], event="step.released")
    claimed = replace(REAPED[2], attempt=1)
    rows = [ROWS[0], replace(ROWS[1], attempt=1), ROWS[2]]
    history = with_events([*BEFORE, REAPED[0], released, claimed, DONE, *AFTER])
    assert broken(replace(history, faults=[], steps=rows)) == set()


def test_a_recovery_that_took_too_long_is_found_and_other_faults_excuse_it() -> None:
    slow = verdict(GOOD, recovery_s=3)
    assert [violation.rule for violation in slow.violations] == [Rule.SLOW]
    outage = Fault("kill redis", at(5), at(6))
    assert verdict(replace(GOOD, faults=[KILL, outage]), recovery_s=3).violations == []


def test_a_copy_ends_as_its_original() -> None:
    copied = replace(
        SUCCEEDED, id=COPY, original_id=JOB, cached=True, chunks_total=1, chunks_done=1
    )
    told = replace(GOOD.told[0], id=COPY, job_id=COPY, deliveries=())
    ends = [
        replace(event(0.5, "job.queued"), job_id=COPY),
        replace(event(8.3, "job.succeeded"), job_id=COPY),
    ]
    history = replace(
        GOOD, jobs=[SUCCEEDED, copied], events=[*GOOD.events, *ends], told=[*GOOD.told, told]
    )
    assert broken(history) == set()
    failed = replace(SUCCEEDED, state="failed", error_code="internal_error", text=None)
    assert Rule.WRONG_END in broken(replace(history, jobs=[failed, copied]))


def retried(*first_end: Event) -> History:
    """The job ended so while its chunk was held, was retried and succeeded."""
    events = [
        *BEFORE,
        event(2, "step.claimed", 2, by=FIRST),
        *first_end,
        event(4, "job.retried"),
        replace(event(4.1, "step.queued", 2), epoch=2),
        event(5, "job.running"),
        replace(event(6, "step.claimed", 2, epoch=3, by=SECOND), attempt=1),
        event(7, "step.done", 2, epoch=3, by=SECOND),
        *AFTER,
    ]
    first = Told(NOBODY, JOB, 1, first_end[-1].event, "{}", ())
    return replace(
        with_events(events),
        jobs=[replace(SUCCEEDED, run=2)],
        steps=[ROWS[0], replace(ROWS[1], attempt=1, epoch=3), ROWS[2]],
        faults=[],
        told=[first, replace(GOOD.told[0], run=2)],
    )


FAILED = retried(event(3, "step.failed", 2, by=FIRST), event(3.1, "job.failed"))
CANCELED = retried(event(3.1, "job.canceled"))


@pytest.mark.parametrize("history", [FAILED, CANCELED], ids=["failed", "canceled"])
def test_a_retried_job_may_end_once_more_and_no_other_job(history: History) -> None:
    assert broken(history) == set()
    unasked = [each for each in history.events if each.event != "job.retried"]
    assert Rule.ILLEGAL in broken(replace(history, events=unasked))


def test_a_worker_that_writes_with_its_claim_of_before_the_retry_is_found() -> None:
    stale = event(6.5, "step.done", 2, by=FIRST)
    late = sorted([*CANCELED.events, stale], key=lambda each: each.at)
    assert Rule.STALE_WRITE in broken(replace(CANCELED, events=late))


def test_an_end_told_twice_or_never_is_found() -> None:
    twice = [*GOOD.told, replace(GOOD.told[0], id=COPY, deliveries=())]
    assert broken(replace(GOOD, told=twice)) == {Rule.WEBHOOK}
    assert broken(replace(GOOD, told=[], received=[])) == {Rule.WEBHOOK}


def test_another_end_than_the_jobs_own_is_found() -> None:
    assert broken(replace(GOOD, told=[replace(GOOD.told[0], type="job.failed")])) == {Rule.WEBHOOK}


def test_an_event_that_never_arrived_or_arrived_changed_is_found() -> None:
    assert broken(replace(GOOD, received=[])) == {Rule.WEBHOOK}
    changed = [*GOOD.received, Received(str(TOLD), '{"other": 1}')]
    assert broken(replace(GOOD, received=changed)) == {Rule.WEBHOOK}
    assert broken(replace(GOOD, told=[replace(GOOD.told[0], deliveries=((URL, "pending"),))])) == {
        Rule.WEBHOOK
    }


def test_a_receiver_that_takes_nothing_leaves_its_delivery_pending() -> None:
    deaf = replace(GOOD, received=[], deaf=frozenset({URL}))
    assert broken(deaf) == {Rule.WEBHOOK}
    pending = [replace(GOOD.told[0], deliveries=((URL, "pending"),))]
    assert broken(replace(deaf, told=pending)) == set()
    assert broken(replace(deaf, told=pending, received=GOOD.received)) == {Rule.WEBHOOK}


def test_a_delivery_is_tried_again_until_it_is_taken() -> None:
    attempts = [
        event(8.3, "step.queued", 4),
        event(9, "step.claimed", 4),
        event(9.1, "step.retried", 4),
        event(10, "step.claimed", 4, epoch=2),
        event(10.1, "step.done", 4, epoch=2),
    ]
    history = with_events([*GOOD.events, *attempts])
    rows = [*ROWS, Step(4, JOB, "deliver", 0, "done", 2, 2)]
    assert broken(replace(history, steps=rows)) == set()


def test_an_event_from_nowhere_is_found() -> None:
    assert broken(replace(GOOD, received=[*GOOD.received, Received("x", "{}")])) == {Rule.WEBHOOK}


def test_a_workers_process_is_read_from_its_name() -> None:
    assert pid_of("model-whisper-base@some-host-4711-0a1b2c3d") == 4711
    assert pid_of("cpu@some-host-4711-0a1b2c3d/4712-3d2c1b0a") == 4712
