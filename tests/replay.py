"""The history of one job, replayed against the state machine of ``shared.store.states``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from history import Event, Job, Step


class Rule(StrEnum):
    """What can be wrong."""

    LOST = "lost"
    """An accepted job that is not there, has not ended, or has no transcript."""
    WRONG_END = "wrong end"
    """It ended otherwise than it had to."""
    WRONG_WORDS = "wrong words"
    """Its transcript is not what was said: words lost, doubled or moved."""
    TWO_ENDS = "two ends"
    """More than one terminal event of one run."""
    STALE_WRITE = "stale write"
    """A write of a claim that was no longer current, or of a step that was not running."""
    AFTER_THE_END = "after the end"
    """A step of a job that had ended changed."""
    ILLEGAL = "illegal"
    """A transition that the state machine does not have."""
    ROWS_DISAGREE = "rows disagree"
    """The tables say something else than the history."""
    EARLY_REAP = "early reap"
    """A step was taken from its holder before the lease ran out."""
    REWORK = "rework"
    """A step was done again though nothing had happened to its holder."""
    SLOW = "slow"
    """A step that lost its holder was not claimed again in time."""
    WEBHOOK = "webhook"
    """A job's end was not told, told twice, or told wrongly."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule broken, and by what."""

    rule: Rule
    job_id: UUID | None
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: job {self.job_id}: {self.what}"


_ENDS = frozenset({"job.succeeded", "job.failed", "job.canceled"})

_JOB_MOVES: Mapping[str | None, Mapping[str, str]] = {
    None: {"job.queued": "queued"},
    "queued": {
        "job.running": "running",
        "job.canceled": "canceled",
        # Of a job that waits for an equal one; see ``_as_its_original``.
        "job.succeeded": "succeeded",
        "job.failed": "failed",
    },
    "running": {
        "job.succeeded": "succeeded",
        "job.failed": "failed",
        "job.canceled": "canceled",
    },
    "failed": {"job.retried": "queued"},
    "canceled": {"job.retried": "queued"},
}

_BETWEEN_STATEMENTS = timedelta(seconds=1)
"""A lease begins with one statement of a transaction, and its event is written by a later one."""

_STEP_ENDS: Mapping[str, str] = {
    "step.done": "done",
    "step.failed": "failed",
    "step.released": "queued",
    "step.retried": "queued",
    "step.postponed": "queued",
    "step.reaped": "queued",
}
"""What ends a tenure, and the state that the step is in afterwards."""


@dataclass(slots=True)
class Tenure:
    """A step held by one worker: from a claim to what ended it."""

    claimed: Event
    ended: Event | None = None
    next_claim: Event | None = None


@dataclass(slots=True)
class _StepNow:
    """A step as the history has it so far."""

    state: str = "queued"
    attempt: int = 0
    epoch: int = 0
    tenure: Tenure | None = None


@dataclass(slots=True)
class Replay:
    """One job's history, event by event."""

    job: Job
    rows: Sequence[Step]
    lease: timedelta
    state: str | None = None
    runs: int = 1
    ends: int = 0
    steps: dict[int, _StepNow] = field(default_factory=dict)
    tenures: list[Tenure] = field(default_factory=list)

    def run(self, events: Iterable[Event]) -> Iterator[Violation]:
        """Go through the events in their order; yield what is wrong with them."""
        for event in events:
            if event.step_id is None:
                yield from self._move_job(event)
            elif event.event == "step.queued":
                yield from self._queue_step(event)
            else:
                yield from self._move_step(event)
        if self.ends > self.runs:
            yield self._violation(Rule.TWO_ENDS, f"{self.ends} terminal events in {self.runs} runs")
        yield from self._compare()

    def _delivers(self, step_id: int) -> bool:
        return any(row.id == step_id and row.kind == "deliver" for row in self.rows)

    def _move_job(self, event: Event) -> Iterator[Violation]:
        self.ends += event.event in _ENDS
        self.runs += event.event == "job.retried"
        state = _JOB_MOVES.get(self.state, {}).get(event.event)
        if state is None:
            yield self._violation(Rule.ILLEGAL, f"{event.event} while {self.state}")
            return
        works = any(not self._delivers(step_id) for step_id in self.steps)
        if self.state == "queued" and event.event in ("job.succeeded", "job.failed") and works:
            yield self._violation(Rule.ILLEGAL, f"{event.event} of a job that never ran")
        self.state = state

    def _queue_step(self, event: Event) -> Iterator[Violation]:
        """A step is new, or not done in the run before this one."""
        assert event.step_id is not None
        yield from self._after_the_end(event)
        before = self.steps.get(event.step_id)
        epoch = 0 if before is None else before.epoch + 1
        if before is not None and (before.state == "done" or event.epoch != epoch):
            yield self._violation(Rule.ILLEGAL, f"step {event.step_id} was queued twice")
        self.steps[event.step_id] = _StepNow(epoch=epoch)

    def _move_step(self, event: Event) -> Iterator[Violation]:
        assert event.step_id is not None
        step = self.steps.get(event.step_id)
        if step is None:
            yield self._violation(Rule.ILLEGAL, f"{event.event} of an unknown step")
            return
        yield from self._after_the_end(event)
        if event.event == "step.claimed":
            yield from self._claim(step, event)
        elif event.event in _STEP_ENDS:
            yield from self._end_tenure(step, event)
        else:
            yield self._violation(Rule.ILLEGAL, f"an event {event.event}")

    def _claim(self, step: _StepNow, event: Event) -> Iterator[Violation]:
        if step.state != "queued":
            yield self._violation(
                Rule.ILLEGAL, f"step {event.step_id} was claimed while {step.state}"
            )
        if (event.epoch, event.attempt) != (step.epoch + 1, step.attempt + 1):
            yield self._violation(
                Rule.ILLEGAL,
                f"step {event.step_id} was claimed at epoch {event.epoch}, attempt {event.attempt} "
                f"after epoch {step.epoch}, attempt {step.attempt}",
            )
        tenure = Tenure(event)
        if step.tenure is not None:
            step.tenure.next_claim = event
        self.tenures.append(tenure)
        step.state, step.tenure = "running", tenure
        step.epoch, step.attempt = event.epoch or 0, event.attempt or 0

    def _end_tenure(self, step: _StepNow, event: Event) -> Iterator[Violation]:
        held = step.tenure.claimed if step.tenure else None
        is_current = (
            held is not None
            and step.state == "running"
            and (held.epoch, held.worker) == (event.epoch, event.worker)
        )
        if not is_current:
            yield self._violation(
                Rule.STALE_WRITE,
                f"{event.event} of step {event.step_id} at epoch {event.epoch} by {event.worker}, "
                f"while {step.state} at epoch {step.epoch}",
            )
            return
        assert step.tenure is not None
        held_for = event.at - step.tenure.claimed.at
        if event.event == "step.reaped" and held_for < self.lease - _BETWEEN_STATEMENTS:
            yield self._violation(Rule.EARLY_REAP, f"step {event.step_id} at epoch {event.epoch}")
        step.tenure.ended = event
        step.state = _STEP_ENDS[event.event]
        if event.event in ("step.released", "step.postponed"):
            step.attempt -= 1

    def _after_the_end(self, event: Event) -> Iterator[Violation]:
        assert event.step_id is not None
        has_ended = self.state in ("succeeded", "failed", "canceled")
        if has_ended and not self._delivers(event.step_id):
            yield self._violation(
                Rule.AFTER_THE_END, f"{event.event} of step {event.step_id} while {self.state}"
            )

    def _compare(self) -> Iterator[Violation]:
        """Hold what is left in the tables against the history."""
        if self.state != self.job.state:
            yield self._violation(
                Rule.ROWS_DISAGREE, f"its row says {self.job.state}, its history {self.state}"
            )
        if self.steps.keys() != {row.id for row in self.rows}:
            yield self._violation(Rule.ROWS_DISAGREE, "its steps are not those of its history")
        for row in self.rows:
            step = self.steps.get(row.id, _StepNow())
            if (row.state, row.attempt, row.epoch) != (step.state, step.attempt, step.epoch):
                yield self._violation(
                    Rule.ROWS_DISAGREE,
                    f"step {row.id} is {row.state}, attempt {row.attempt}, epoch {row.epoch}; by "
                    f"its history {step.state}, attempt {step.attempt}, epoch {step.epoch}",
                )
        if len({(row.kind, row.idx) for row in self.rows}) < len(self.rows):
            yield self._violation(Rule.ROWS_DISAGREE, "a step is there twice")

    def _violation(self, rule: Rule, what: str) -> Violation:
        return Violation(rule, self.job.id, what)
