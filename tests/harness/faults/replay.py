"""The history of one job, replayed against the state machine of ``shared.store.states``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from harness.faults.history import Change, Job, Step, pid_of


class Rule(StrEnum):
    """What can be wrong."""

    LOST = "lost"
    """An accepted job that is not there, has not ended, or has no transcript."""
    WRONG_END = "wrong end"
    """A job ended otherwise than it had to."""
    WRONG_WORDS = "wrong words"
    """A transcript is not what was said: words lost, doubled or moved."""
    TWO_ENDS = "two ends"
    """More than one end of one run."""
    STALE_WRITE = "stale write"
    """A write of a claim that was no longer current, or to a step that was not running."""
    AFTER_THE_END = "after the end"
    """A step of a job that had ended changed, or could still be claimed."""
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


_ENDS = frozenset({"succeeded", "failed", "canceled"})

_JOB_MOVES: Mapping[str | None, frozenset[str]] = {
    None: frozenset({"queued"}),
    "queued": frozenset({"running", *_ENDS}),
    "running": _ENDS,
}

_RETRYABLE = ("failed", "canceled")


class TenureEnd(StrEnum):
    """How a worker's hold on a step ended."""

    DONE = "done"
    FAILED = "failed"
    RETRIED = "retried"
    """The holder gave it back, and the attempt was lost."""
    RELEASED = "released"
    """It was given back as if never claimed, by its holder or by who found the holder dead."""
    REAPED = "reaped"
    """Somebody else took it back, or failed it, as its lease had run out."""
    VOID = "void"
    """Its job ended."""


@dataclass(slots=True)
class Tenure:
    """A step held by one worker: from a claim to what ended it."""

    claimed: Change
    ended: Change | None = None
    how: TenureEnd | None = None
    taken: bool = False
    """Whether somebody else than the holder ended it, without the job's end."""
    next_claim: Change | None = None
    """In the same run of the job."""


@dataclass(slots=True)
class _StepNow:
    """A step as the history has it so far."""

    kind: str
    state: str = "queued"
    attempt: int = 0
    epoch: int = 0
    tenure: Tenure | None = None


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a transaction did to the job itself."""

    had_ended: bool
    """Before the transaction."""
    ends: bool
    retries: bool


@dataclass(slots=True)
class Replay:
    """One job's history, transaction by transaction."""

    job: Job
    rows: Sequence[Step]
    state: str | None = None
    runs: int = 1
    ends: int = 0
    claimed_in_this_run: bool = False
    steps: dict[int, _StepNow] = field(default_factory=dict)
    tenures: list[Tenure] = field(default_factory=list)

    def run(self, changes: Iterable[Change]) -> Iterator[Violation]:
        """Go through the changes in their order; yield what is wrong with them."""
        transactions: dict[str, list[Change]] = {}
        for change in changes:
            transactions.setdefault(change.transaction, []).append(change)
        for together in transactions.values():
            yield from self._replay_transaction(together)
        if self.ends > self.runs:
            yield self._violation(Rule.TWO_ENDS, f"{self.ends} ends in {self.runs} runs")
        yield from self._compare()

    def _replay_transaction(self, changes: Sequence[Change]) -> Iterator[Violation]:
        had_ended, run = self.state in _ENDS, self.runs
        net: dict[int, Change] = {}  # a step may be written more than once
        for change in changes:
            if change.step_id is None:
                yield from self._move_job(change)
            else:
                net[change.step_id] = change
        retries = self.runs > run
        ends = self.state in _ENDS and (retries or not had_ended)
        frame = _Frame(had_ended, ends, retries)
        for change in net.values():
            yield from self._move_step(change, frame)
        if ends:
            yield from self._see_that_nothing_is_left()

    def _move_job(self, change: Change) -> Iterator[Violation]:
        state, before = change.state, self.state
        self.ends += state in _ENDS
        if change.run == self.runs + 1 and before in _RETRYABLE and state == "queued":
            self.runs += 1
            self.claimed_in_this_run = False
        elif change.run != self.runs or state not in _JOB_MOVES.get(before, ()):
            yield self._violation(
                Rule.ILLEGAL, f"{before} -> {state}, run {self.runs} -> {change.run}"
            )
            return
        works = any(step.kind != "deliver" for step in self.steps.values())
        never_ran = before == "queued" and works and not self.claimed_in_this_run
        if never_ran and state in ("succeeded", "failed"):
            yield self._violation(Rule.ILLEGAL, f"{state}, and nobody had claimed a step of it")
        self.state = state

    def _see_that_nothing_is_left(self) -> Iterator[Violation]:
        for step_id, step in self.steps.items():
            if step.kind != "deliver" and step.state in ("queued", "running"):
                yield self._violation(
                    Rule.AFTER_THE_END, f"step {step_id} is still {step.state} while {self.state}"
                )

    def _move_step(self, change: Change, frame: _Frame) -> Iterator[Violation]:
        assert change.step_id is not None
        assert change.kind is not None
        step = self.steps.get(change.step_id)
        if frame.had_ended and not frame.retries and change.kind != "deliver":
            yield self._violation(
                Rule.AFTER_THE_END, f"step {change.step_id} -> {change.state} while {self.state}"
            )
        if step is None:
            self.steps[change.step_id] = _StepNow(change.kind)
            if (change.state, change.attempt, change.epoch) != ("queued", 0, 0):
                yield self._illegal(change, "nothing")
            return
        match change.state:
            case "running":
                yield from self._claim(step, change)
            case "queued" if step.state != "running":
                yield from self._queue_anew(step, change, frame)
            case "void":
                yield from self._void(step, change, frame)
            case _:
                yield from self._end_tenure(step, change)

    def _claim(self, step: _StepNow, change: Change) -> Iterator[Violation]:
        attempt, epoch = change.attempt or 0, change.epoch or 0
        if step.state != "queued" or (attempt, epoch) != (step.attempt + 1, step.epoch + 1):
            yield self._illegal(change, f"{step.state}, attempt {step.attempt}, epoch {step.epoch}")
        tenure = Tenure(change)
        if step.tenure is not None:
            step.tenure.next_claim = change
        self.tenures.append(tenure)
        self.claimed_in_this_run = True
        step.state, step.attempt, step.epoch, step.tenure = "running", attempt, epoch, tenure

    def _queue_anew(self, step: _StepNow, change: Change, frame: _Frame) -> Iterator[Violation]:
        """A retry of the job queues what is not done, and every claim of before it is over."""
        legal = frame.retries and step.state in ("void", "failed")
        if not legal or (change.attempt, change.epoch) != (0, step.epoch + 1):
            yield self._illegal(change, f"{step.state}, epoch {step.epoch}")
        self.steps[change.step_id or 0] = _StepNow(step.kind, epoch=change.epoch or 0)

    def _void(self, step: _StepNow, change: Change, frame: _Frame) -> Iterator[Violation]:
        legal = frame.ends and step.kind != "deliver" and step.state in ("queued", "running")
        if not legal or (change.attempt, change.epoch) != (step.attempt, step.epoch):
            yield self._illegal(change, f"{step.state}, attempt {step.attempt}, epoch {step.epoch}")
        if step.tenure is not None and step.state == "running":
            step.tenure.ended, step.tenure.how = change, TenureEnd.VOID
        step.state = "void"

    def _end_tenure(self, step: _StepNow, change: Change) -> Iterator[Violation]:
        tenure = step.tenure
        if tenure is None or step.state != "running" or change.epoch != step.epoch:
            yield self._stale(step, change)
            return
        holder = tenure.claimed.owner
        by_holder = change.writer is not None and change.writer == pid_of(holder or "")
        by_another = change.writer is not None and not by_holder
        if change.state == "done" and (by_another or change.owner != holder):
            yield self._stale(step, change)
            return
        returned = (change.attempt or 0) - step.attempt
        if returned not in ((0, -1) if change.state == "queued" else (0,)):
            yield self._illegal(change, f"{step.state}, attempt {step.attempt}")
        tenure.ended, tenure.taken = change, by_another
        match change.state:
            case "done":
                tenure.how = TenureEnd.DONE
            case "queued" if returned:
                tenure.how = TenureEnd.RELEASED
            case _ if not by_holder:
                tenure.how = TenureEnd.REAPED
            case "queued":
                tenure.how = TenureEnd.RETRIED
            case _:
                tenure.how = TenureEnd.FAILED
        step.state, step.attempt = change.state, change.attempt or 0

    def _compare(self) -> Iterator[Violation]:
        """Hold what is left in the tables against the history."""
        if (self.state, self.runs) != (self.job.state, self.job.run):
            yield self._violation(
                Rule.ROWS_DISAGREE,
                f"its row says {self.job.state}, run {self.job.run}; its history {self.state}, "
                f"run {self.runs}",
            )
        if self.steps.keys() != {row.id for row in self.rows}:
            yield self._violation(Rule.ROWS_DISAGREE, "its steps are not those of its history")
        for row in self.rows:
            step = self.steps.get(row.id, _StepNow(row.kind))
            if (row.state, row.attempt, row.epoch) != (step.state, step.attempt, step.epoch):
                yield self._violation(
                    Rule.ROWS_DISAGREE,
                    f"step {row.id} is {row.state}, attempt {row.attempt}, epoch {row.epoch}; by "
                    f"its history {step.state}, attempt {step.attempt}, epoch {step.epoch}",
                )
        if len({(row.kind, row.idx) for row in self.rows}) < len(self.rows):
            yield self._violation(Rule.ROWS_DISAGREE, "a step is there twice")

    def _stale(self, step: _StepNow, change: Change) -> Violation:
        return self._violation(
            Rule.STALE_WRITE,
            f"step {change.step_id} -> {change.state} at epoch {change.epoch} by process "
            f"{change.writer}, while {step.state} at epoch {step.epoch}",
        )

    def _illegal(self, change: Change, before: str) -> Violation:
        return self._violation(
            Rule.ILLEGAL,
            f"step {change.step_id}: {before} -> {change.state}, attempt {change.attempt}, epoch "
            f"{change.epoch}",
        )

    def _violation(self, rule: Rule, what: str) -> Violation:
        return Violation(rule, self.job.id, what)
