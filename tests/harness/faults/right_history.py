"""A history in which everything is right, and ways to change it."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from harness.faults.checker import Verdict, check
from harness.faults.history import (
    Change,
    Fault,
    History,
    Job,
    Received,
    Recording,
    Step,
    Told,
    pid_of,
)
from harness.faults.replay import Rule

JOB, COPY, NOBODY, TOLD = (UUID(int=number) for number in range(4))
URL = "http://127.0.0.1:9/hook"
START = datetime(2030, 1, 1, tzinfo=UTC)
FIRST, SECOND = "model@host-11-aaaa", "model@host-22-bbbb"
CPU = "cpu@host-33-cccc"
SWEEPER, API = 44, None
"""Process ids, as far as they are known."""
KINDS = {1: "prepare", 2: "transcribe", 3: "finish", 4: "deliver"}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def job(seconds: float, state: str, run: int = 1) -> Change:
    """A change of the job. Changes of the same time are of one transaction."""
    return Change(
        id=round(seconds * 100),
        transaction=str(seconds),
        at=at(seconds),
        writer=API,
        job_id=JOB,
        state=state,
        run=run,
    )


def step(
    seconds: float,
    number: int,
    state: str,
    epoch: int = 1,
    *,
    by: str = CPU,
    attempt: int | None = None,
    writer: int | None = None,
) -> Change:
    """A change of a step. Its holder has written it, unless another writer is named."""
    return Change(
        id=round(seconds * 100),
        transaction=str(seconds),
        at=at(seconds),
        writer=pid_of(by) if writer is None else writer,
        job_id=JOB,
        state=state,
        step_id=number,
        kind=KINDS[number],
        attempt=epoch if attempt is None else attempt,
        epoch=epoch,
        owner=None if state == "queued" else by,
    )


BEFORE = [
    job(0, "queued"),
    step(0, 1, "queued", 0),
    step(1, 1, "running"),
    job(1.1, "running"),
    step(1.3, 1, "done"),
    step(1.3, 2, "queued", 0),
]
REAPED = [
    step(2, 2, "running", by=FIRST),
    step(6, 2, "queued", by=FIRST, writer=SWEEPER),
    step(6.5, 2, "running", 2, by=SECOND),
]
DONE = step(7, 2, "done", 2, by=SECOND)
AFTER = [
    step(7, 3, "queued", 0),
    step(8, 3, "running"),
    step(8.1, 3, "done"),
    job(8.1, "succeeded"),
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
    announced=True,
)
GOOD = History(
    accepted=frozenset({JOB}),
    canceled=frozenset(),
    recordings={"abc": Recording("one two")},
    jobs=[SUCCEEDED],
    steps=ROWS,
    changes=[*BEFORE, *REAPED, DONE, *AFTER],
    faults=[KILL],
    told=[Told(TOLD, JOB, 1, "job.succeeded", "{}", ((URL, "delivered"),))],
    received=[Received(str(TOLD), "{}"), Received(str(TOLD), "{}")],
)


def verdict(history: History, *, recovery_s: float = 5) -> Verdict:
    return check(history, lease_s=4, recovery_s=recovery_s)


def broken(history: History) -> set[Rule]:
    return {violation.rule for violation in verdict(history).violations}


def with_changes(changes: Iterable[Change]) -> History:
    return replace(GOOD, changes=sorted(changes, key=lambda each: each.at))


def without(*unwanted: Change) -> History:
    return with_changes(each for each in GOOD.changes if each not in unwanted)


def with_job(**changes: object) -> History:
    return replace(GOOD, jobs=[replace(SUCCEEDED, **changes)])  # type: ignore[arg-type]
