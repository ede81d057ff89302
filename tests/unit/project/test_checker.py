"""The checker finds what it is for: each rule is broken once here, in a history otherwise right."""

from dataclasses import replace
from datetime import timedelta

import pytest

from harness.faults.checker import check
from harness.faults.history import Fault, History, Received, Recording, Step, Told, pid_of
from harness.faults.replay import Rule
from harness.faults.right_history import (
    AFTER,
    BEFORE,
    COPY,
    DONE,
    FIRST,
    GOOD,
    JOB,
    KILL,
    NOBODY,
    REAPED,
    ROWS,
    SECOND,
    SUCCEEDED,
    TOLD,
    URL,
    at,
    broken,
    job,
    step,
    verdict,
    with_changes,
    with_job,
    without,
)


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
        changes=[
            *BEFORE,
            *REAPED,
            step(11, 2, "failed", 2, by=SECOND),
            job(11, "failed"),
        ],
        told=[Told(TOLD, JOB, 1, "job.failed", "{}", ())],
        received=[],
    )
    assert broken(failed) == set()
    other = replace(failed.jobs[0], error_code="internal_error")
    assert broken(replace(failed, jobs=[other])) == {Rule.WRONG_END}


def test_canceled_never_becomes_succeeded() -> None:
    assert broken(replace(GOOD, canceled=frozenset({JOB}))) == {Rule.WRONG_END}
    again = with_changes([*GOOD.changes, job(6.8, "canceled")])
    assert {Rule.TWO_ENDS, Rule.AFTER_THE_END} <= broken(again)


def test_a_cancellation_that_nobody_asked_for_is_found() -> None:
    assert Rule.WRONG_END in broken(with_job(state="canceled", text=None))


def test_two_ends_are_found() -> None:
    assert Rule.TWO_ENDS in broken(with_changes([*GOOD.changes, job(9, "succeeded")]))


def test_a_stale_workers_completion_is_found() -> None:
    while_another_holds_it = step(6.8, 2, "done", 2, by=SECOND, writer=pid_of(FIRST))
    changes = [*BEFORE, *REAPED, while_another_holds_it, *AFTER]
    assert Rule.STALE_WRITE in broken(replace(GOOD, changes=changes))
    of_an_old_epoch = step(6.8, 2, "done", 1, by=FIRST)
    assert broken(with_changes([*GOOD.changes, of_an_old_epoch])) == {Rule.STALE_WRITE}


def test_a_step_done_twice_is_found() -> None:
    again = replace(DONE, transaction="again", at=at(7.05))
    assert broken(with_changes([*GOOD.changes, again])) == {Rule.STALE_WRITE}


def test_the_current_epoch_written_by_another_worker_is_found() -> None:
    thief = replace(DONE, owner=FIRST)
    assert Rule.STALE_WRITE in broken(with_changes([*BEFORE, *REAPED, thief, *AFTER]))


def test_a_change_of_a_step_after_its_jobs_end_is_found() -> None:
    late = step(9, 2, "done", 2, by=SECOND)
    assert broken(with_changes([*GOOD.changes, late])) == {Rule.STALE_WRITE, Rule.AFTER_THE_END}


def test_a_delivery_comes_after_its_jobs_end() -> None:
    delivered = [step(8.1, 4, "queued", 0), step(9, 4, "running"), step(9.1, 4, "done")]
    rows = [*ROWS, Step(4, JOB, "deliver", 0, "done", 1, 1)]
    assert broken(replace(with_changes([*GOOD.changes, *delivered]), steps=rows)) == set()
    others = [replace(each, kind="transcribe") for each in delivered]
    rows = [*ROWS, Step(4, JOB, "transcribe", 1, "done", 1, 1)]
    history = replace(with_changes([*GOOD.changes, *others]), steps=rows)
    assert Rule.AFTER_THE_END in broken(history)


def test_a_claim_of_a_step_that_is_held_is_found() -> None:
    assert Rule.ILLEGAL in broken(without(REAPED[1]))


def test_an_epoch_that_does_not_rise_is_found() -> None:
    same = replace(REAPED[2], epoch=1)
    assert Rule.ILLEGAL in broken(with_changes([*BEFORE, *REAPED[:2], same, DONE, *AFTER]))


def test_an_attempt_that_is_not_counted_is_found() -> None:
    same = replace(REAPED[2], attempt=1)
    assert Rule.ILLEGAL in broken(with_changes([*BEFORE, *REAPED[:2], same, DONE, *AFTER]))


def test_a_step_queued_twice_is_found() -> None:
    assert Rule.ILLEGAL in broken(with_changes([*GOOD.changes, step(1.4, 2, "queued", 0)]))


def test_a_step_that_nobody_queued_is_found() -> None:
    assert Rule.ILLEGAL in broken(without(AFTER[0]))


def test_a_job_that_ended_before_anybody_had_claimed_a_step_is_found() -> None:
    failed = with_changes([*BEFORE[:2], job(1, "failed"), step(1, 1, "void", 0)])
    assert Rule.ILLEGAL in broken(failed)


def test_a_state_of_an_unknown_kind_is_found() -> None:
    assert Rule.STALE_WRITE in broken(with_changes([*GOOD.changes, step(1.4, 2, "blessed", 0)]))
    assert Rule.ILLEGAL in broken(with_changes([*GOOD.changes, job(1.4, "blessed")]))


def test_a_row_that_its_history_does_not_explain_is_found() -> None:
    forged = replace(ROWS[1], epoch=3)
    assert broken(replace(GOOD, steps=[ROWS[0], forged, ROWS[2]])) == {Rule.ROWS_DISAGREE}
    assert broken(replace(GOOD, steps=ROWS[:2])) == {Rule.ROWS_DISAGREE}


@pytest.mark.parametrize("count", ["chunks_total", "chunks_done"])
def test_a_counter_that_is_not_the_number_of_its_rows_is_found(count: str) -> None:
    assert broken(with_job(**{count: 2})) == {Rule.ROWS_DISAGREE}


def test_a_step_taken_before_its_lease_ran_out_is_found() -> None:
    def rules(history: History) -> set[Rule]:
        return {each.rule for each in check(history, lease_s=5.5, recovery_s=5).violations}

    assert rules(GOOD) == {Rule.EARLY_REAP}
    assert rules(replace(GOOD, faults=[replace(KILL, noticed=True)])) == set()
    assert rules(replace(GOOD, faults=[replace(KILL, delays=True)])) == set()


def test_work_done_again_needs_a_fault_that_hit_its_holder() -> None:
    assert broken(replace(GOOD, faults=[])) == {Rule.REWORK}
    elsewhere = replace(KILL, pids=frozenset({22}))
    assert broken(replace(GOOD, faults=[elsewhere])) == {Rule.REWORK}
    too_early = replace(KILL, began=at(0), ended=at(1))
    assert broken(replace(GOOD, faults=[too_early])) == {Rule.REWORK}


def test_a_step_that_was_released_may_be_claimed_again() -> None:
    released = step(6, 2, "queued", by=FIRST, attempt=0)
    claimed = replace(REAPED[2], attempt=1)
    done = replace(DONE, attempt=1)
    rows = [ROWS[0], replace(ROWS[1], attempt=1), ROWS[2]]
    history = with_changes([*BEFORE, REAPED[0], released, claimed, done, *AFTER])
    assert broken(replace(history, faults=[], steps=rows)) == set()


def test_a_step_that_its_holder_gave_back_with_the_attempt_lost_needs_a_fault() -> None:
    given_back = step(6, 2, "queued", by=FIRST)
    history = with_changes([*BEFORE, REAPED[0], given_back, REAPED[2], DONE, *AFTER])
    assert broken(history) == set()
    assert broken(replace(history, faults=[])) == {Rule.REWORK}


def test_a_short_files_chunk_ends_the_job_by_itself() -> None:
    history = with_changes([*BEFORE, *REAPED, DONE, job(7, "succeeded")])
    assert broken(replace(history, steps=ROWS[:2])) == set()
    two = replace(SUCCEEDED, chunks_total=2, chunks_done=2)
    chunk = [step(1.3, 3, "queued", 0), step(2, 3, "running"), step(3, 3, "done")]
    chunk = [replace(each, kind="transcribe") for each in chunk]
    rows = [*ROWS[:2], Step(3, JOB, "transcribe", 1, "done", 1, 1)]
    unfinished = with_changes([*history.changes, *chunk])
    assert broken(replace(unfinished, jobs=[two], steps=rows)) == {Rule.ROWS_DISAGREE}


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
        replace(job(0.5, "queued"), job_id=COPY),
        replace(job(8.1, "succeeded"), job_id=COPY),
    ]
    history = replace(
        GOOD, jobs=[SUCCEEDED, copied], changes=[*GOOD.changes, *ends], told=[*GOOD.told, told]
    )
    assert broken(history) == set()
    failed = replace(SUCCEEDED, state="failed", error_code="internal_error", text=None)
    assert Rule.WRONG_END in broken(replace(history, jobs=[failed, copied]))


def test_an_end_told_twice_or_never_is_found() -> None:
    twice = [*GOOD.told, replace(GOOD.told[0], id=COPY, deliveries=())]
    assert broken(replace(GOOD, told=twice)) == {Rule.WEBHOOK}
    assert broken(replace(GOOD, told=[], received=[])) == {Rule.WEBHOOK}
    unannounced = with_job(announced=False)
    assert broken(unannounced) == {Rule.WEBHOOK}
    assert broken(replace(unannounced, told=[], received=[])) == set()


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
        step(8.1, 4, "queued", 0),
        step(9, 4, "running"),
        step(9.1, 4, "queued"),
        step(10, 4, "running", 2),
        step(10.1, 4, "done", 2),
    ]
    history = with_changes([*GOOD.changes, *attempts])
    rows = [*ROWS, Step(4, JOB, "deliver", 0, "done", 2, 2)]
    assert broken(replace(history, steps=rows)) == set()


def test_an_event_from_nowhere_is_found() -> None:
    assert broken(replace(GOOD, received=[*GOOD.received, Received("x", "{}")])) == {Rule.WEBHOOK}


def test_a_workers_process_is_read_from_its_name() -> None:
    assert pid_of("model-whisper-base@some-host-4711-0a1b2c3d") == 4711
    assert pid_of("cpu@some-host-4711-0a1b2c3d/4712-3d2c1b0a") == 4712
