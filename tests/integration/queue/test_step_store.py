"""The step store does what its model does, whatever clients, workers and the sweeper do to both.

Two operations at once must end as if one had been done after the other.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime
from threading import Barrier
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from uuid_utils.compat import uuid7

from harness.database.changes import recorded
from harness.database.store_model import QUEUES, RETRYABLE, ClaimKey, Model, StepKey, read_model
from harness.database.store_operations import (
    Cancel,
    ClaimNext,
    ClaimStep,
    CompleteChunks,
    Create,
    Operation,
    Reap,
    Renew,
    RetryJob,
    Write,
)
from harness.faults.checker import check
from harness.faults.faulty_worker import unfence
from harness.faults.history import Fault, Recording
from harness.faults.readings import read_history
from harness.faults.replay import Rule
from shared.infra.database import make_engine
from shared.infra.settings import Settings
from shared.store.steps import Claim

MAX_JOBS = 6
FINGERPRINTS = ("a" * 64, "b" * 64, None)
WRITES = ("complete", "complete", "release", "postpone", "retry", "fail", "fail")
PICK = strategies.integers(0, 1000)
RACER = strategies.tuples(
    strategies.one_of(
        strategies.sampled_from(["create", "claim", "complete", "batch", "cancel", "retry job"]),
        strategies.sampled_from(WRITES),
    ),
    PICK,
)
T = TypeVar("T")
LEGAL = frozenset(Rule) - {Rule.LOST, Rule.WRONG_END, Rule.WRONG_WORDS, Rule.REWORK, Rule.SLOW}
"""What must hold of any history, however it goes on."""
ALL_TIME = Fault("a test", datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), None)


class StoreMachine(RuleBasedStateMachine):
    """Draws operations, does them to both, and compares.

    Which of two at once is first, only Postgres knows; hypothesis wants equal draws to lead to the
    same choices. So no rule has a precondition, and what cannot be done is left out.
    """

    sessions: tuple[Engine, Engine]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.held: dict[ClaimKey, Claim] = {}
        self.epochs: dict[StepKey, int] = {}

    @initialize(pick=PICK)
    def begin(self, pick: int) -> None:
        """Begin with one job."""
        with self.sessions[0].begin() as connection:
            connection.execute(text("DELETE FROM jobs"))
            connection.execute(text("DELETE FROM transcripts"))
            connection.execute(text("DELETE FROM test_history"))
        self._do(self._draw_create(pick))

    @rule(pick=PICK)
    def create(self, pick: int) -> None:
        if len(self.model.jobs) < MAX_JOBS:
            self._do(self._draw_create(pick))

    @rule(pick=PICK)
    def claim(self, pick: int) -> None:
        self._do(ClaimStep(_some([*self.model.steps], pick)))

    @rule(pick=PICK)
    def claim_next(self, pick: int) -> None:
        self._do(self._draw_claim(pick))

    @rule(picks=strategies.lists(PICK, min_size=1, max_size=6))
    def work(self, picks: list[int]) -> None:
        """Claim and complete some steps, as when nothing goes wrong."""
        for pick in picks:
            if claimable := self._claimable():
                step = _some(claimable, pick)
                self._do(ClaimStep(step))
                claim = (step, self.model.steps[step].epoch)
                if step[1] == "prepare":
                    self._do(Write(claim, f"add {pick % 3 + 1}"))
                self._do(self._write(claim, "complete"))

    @rule(pick=PICK, what=strategies.sampled_from(WRITES))
    def write(self, pick: int, what: str) -> None:
        if self.held:
            self._do(self._draw_write(pick, what))

    @rule(picks=strategies.lists(PICK, min_size=1, max_size=4))
    def complete_batch(self, picks: list[int]) -> None:
        if self._chunks():
            self._do(self._draw_batch(picks))

    @rule(picks=strategies.lists(PICK, min_size=1, max_size=4))
    def renew(self, picks: list[int]) -> None:
        if self.held:
            self._do(Renew(tuple({self._some_claim(pick) for pick in picks})))

    @rule(pick=PICK)
    def reap(self, pick: int) -> None:
        if self.held:
            self._do(Reap(self._some_claim(pick)))

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        # Not too often: what is canceled does not fail.
        if len(self.model.jobs) == MAX_JOBS or pick % 4 == 1:
            self._do(self._draw_cancel(pick))

    @rule(pick=PICK)
    def retry_job(self, pick: int) -> None:
        self._do(self._draw_retry_job(pick))

    @rule(first=RACER, second=RACER)
    def race(self, first: tuple[str, int], second: tuple[str, int]) -> None:
        """Do two things at once, in two sessions."""
        if not self.held:
            return
        one, other = self._draw_racer(*first), self._draw_racer(*second)
        both = Barrier(2)

        def run(operation: Operation, engine: Engine) -> str:
            both.wait(60)
            return operation.run(engine, self.held)

        with ThreadPoolExecutor(2) as threads:
            futures = list(map(threads.submit, [run, run], [one, other], self.sessions))
            results = [future.result(60) for future in futures]
        orders = []
        for order in ((one, other), (other, one)):
            model = deepcopy(self.model)
            said = {id(operation): operation.apply(model) for operation in order}
            orders.append(([said[id(one)], said[id(other)]], model))
        found = self._read(orders[0][1])
        self.model = next((m for said, m in orders if (said, m) == (results, found)), self.model)
        assert (results, found) in orders, (one, other)

    @invariant()
    def postgres_has_what_the_model_has(self) -> None:
        assert self._read(self.model) == self.model

    @invariant()
    def epochs_never_fall(self) -> None:
        for key, step in self.model.steps.items():
            assert step.epoch >= self.epochs.get(key, 0)
            self.epochs[key] = step.epoch

    @invariant()
    def counters_are_the_numbers_of_rows(self) -> None:
        for job_id, job in self.model.jobs.items():
            chunks = [
                step
                for (owner, kind, _), step in self.model.steps.items()
                if owner == job_id and kind == "transcribe"
            ]
            done = sum(step.state == "done" for step in chunks)
            if not job.cached:
                assert (job.chunks_total, job.chunks_done) == (len(chunks), done)

    def teardown(self) -> None:
        """See that the history of it all is legal."""
        history = read_history(
            self.sessions[0], recordings={"0" * 64: Recording("hello")}, faults=[ALL_TIME]
        )
        found = check(history, lease_s=0, recovery_s=0).violations
        assert [each for each in found if each.rule in LEGAL] == []

    def _do(self, operation: Operation) -> None:
        assert operation.run(self.sessions[0], self.held) == operation.apply(self.model), operation

    def _read(self, like: Model) -> Model:
        fingerprints = {job_id: job.fingerprint for job_id, job in like.jobs.items()}
        return read_model(self.sessions[0], fingerprints)

    def _draw_racer(self, what: str, pick: int) -> Operation:
        match what:
            case "create":
                return self._draw_create(pick)
            case "claim":
                return self._draw_claim(pick, alone=False)
            case "batch" if self._chunks():
                return self._draw_batch([pick, pick // 7, pick // 49])
            case "cancel":
                return self._draw_cancel(pick)
            case "retry job":
                return self._draw_retry_job(pick)
            case "batch":
                return self._draw_write(pick, "complete")
            case _:
                return self._draw_write(pick, what)

    def _draw_create(self, pick: int) -> Operation:
        return Create(uuid7(), FINGERPRINTS[pick % len(FINGERPRINTS)])

    def _draw_claim(self, pick: int, *, alone: bool = True) -> Operation:
        return ClaimNext(_some([*set(QUEUES.values())], pick), pick % 3 + 1, alone)

    def _draw_write(self, pick: int, what: str) -> Operation:
        claim = self._some_claim(pick)
        # Half of the plans are added to before they are complete.
        if claim[0][1] == "prepare" and pick % 2:
            what = f"add {pick % 3 + 1}"
        return self._write(claim, what)

    def _write(self, claim: ClaimKey, what: str) -> Operation:
        return Write(claim, what, self.held[claim].only_chunk)

    def _draw_batch(self, picks: list[int]) -> Operation:
        chunks = self._chunks()
        return CompleteChunks(tuple({_some(chunks, pick): None for pick in picks}))

    def _chunks(self) -> list[ClaimKey]:
        """Return the claims of chunks: the current ones where there are some, and a few more."""
        held = [claim for claim in self.held if claim[0][1] == "transcribe"]
        current = [claim for claim in held if self.model.is_current(claim)]
        return [*current, *held[-2:]]

    def _draw_cancel(self, pick: int) -> Operation:
        return Cancel(_some([*self.model.jobs], pick))

    def _draw_retry_job(self, pick: int) -> Operation:
        ended = [job_id for job_id, job in self.model.jobs.items() if job.state in RETRYABLE]
        return RetryJob(_some(ended if ended and pick % 4 else [*self.model.jobs], pick))

    def _claimable(self) -> list[StepKey]:
        return [key for key, step in self.model.steps.items() if step.state == "queued"]

    def _some_claim(self, pick: int) -> ClaimKey:
        """Choose a claim: mostly a current one, at times one of the past."""
        current = [claim for claim in self.held if self.model.is_current(claim)]
        return _some(current if current and pick % 4 else [*self.held], pick)


def _some(values: list[T], pick: int) -> T:
    return values[pick % len(values)]


def run_machine(
    servers: Settings, *, examples: int, length: int, phases: Sequence[Phase] = tuple(Phase)
) -> None:
    with two_sessions(servers) as sessions, recorded(sessions[0]):
        StoreMachine.sessions = sessions
        run_state_machine_as_test(
            StoreMachine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=length,
                phases=phases,
                suppress_health_check=list(HealthCheck),
            ),
        )


@contextmanager
def two_sessions(servers: Settings) -> Iterator[tuple[Engine, Engine]]:
    engines = make_engine(servers, pool_size=1), make_engine(servers, pool_size=1)
    yield engines
    for engine in engines:
        engine.dispose()


def test_the_store_does_what_its_model_does(database: Engine, servers: Settings) -> None:
    run_machine(servers, examples=12, length=40)


def test_the_model_finds_out_when_the_fence_is_gone(
    database: Engine, servers: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfence(monkeypatch.setattr)
    with pytest.raises((AssertionError, ExceptionGroup, SQLAlchemyError)):
        run_machine(servers, examples=12, length=40, phases=[Phase.generate])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_store_does_what_its_model_does_at_length(database: Engine, servers: Settings) -> None:
    run_machine(servers, examples=1000, length=80)
