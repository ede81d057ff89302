"""What clients, workers and the sweeper do to the step store.

Each ``Operation`` is done to a ``Model`` (``apply``) and to Postgres (``run``). Both say what came
of it in the same words.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from sqlalchemy import Engine, text

from harness.database.store_model import ACTIVE, RETRYABLE, ClaimKey, MJob, Model, StepKey
from harness.jobs.job_store import (
    CHUNK,
    TRANSCRIPT,
    claim_step,
    expire,
    finish,
    folded,
    new_job,
    transcribe,
)
from shared.infra.errors import (
    EngineFailed,
    JobEnded,
    JobNotRetryable,
    LeaseLost,
    StorageUnavailable,
    UnreadableMedia,
)
from shared.speech.chunks.hypothesis import Hypothesis, hypothesis_to_json
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.create import create_job
from shared.store.jobs.retry import retry_job
from shared.store.steps import ChunkResult, Claim, NewStep
from shared.store.steps.unfinished import MAX_OUTAGES

TENANT = "default"
MAX_ATTEMPTS = 2


class Operation(Protocol):
    """Something that a client, a worker or the sweeper does."""

    def apply(self, model: Model) -> str:
        """Do it to the model."""
        ...

    def run(self, engine: Engine, held: dict[ClaimKey, Claim]) -> str:
        """Do it for real; new claims go into ``held``."""
        ...


@dataclass(frozen=True, slots=True)
class Create:
    """A client submits a file."""

    job_id: UUID
    fingerprint: str | None

    def apply(self, model: Model) -> str:
        model.jobs[self.job_id] = MJob(self.fingerprint)
        model.begin(self.job_id)
        return "created"

    def run(self, engine: Engine, held: dict[ClaimKey, Claim]) -> str:
        job = new_job(self.job_id, fingerprint=self.fingerprint)
        create_job(engine, job, max_attempts=MAX_ATTEMPTS)
        return "created"


@dataclass(frozen=True, slots=True)
class ClaimStep:
    """A worker claims a certain step, as if it were its turn."""

    key: StepKey

    def apply(self, model: Model) -> str:
        if model.steps[self.key].state != "queued":
            return "nothing to claim"
        only_chunk = model.is_only_chunk(self.key)
        _, epoch = model.claim(self.key)
        return f"epoch {epoch}, only chunk: {only_chunk}"

    def run(self, engine: Engine, held: dict[ClaimKey, Claim]) -> str:
        claimed = claim_step(engine, step_id(engine, self.key), owner="test", lease_s=3600)
        if claimed is None:
            return "nothing to claim"
        held[self.key, claimed.epoch] = claimed
        return f"epoch {claimed.epoch}, only chunk: {claimed.only_chunk}"


@dataclass(slots=True)
class ClaimNext:
    """A worker claims what is due in a queue, at most ``limit`` steps.

    Which steps these are, ``run`` finds out; ``apply`` says whether they may be. What was given
    back goes first; the order of the rest is left to the tests of fairness.
    """

    queue: str
    limit: int
    alone: bool = True
    """Nobody else is claiming at the same time, and might have some of what is due."""
    taken: list[ClaimKey] = field(default_factory=list)

    def apply(self, model: Model) -> str:
        due = model.due(self.queue)
        most = min(self.limit, len(due))
        least = most if self.alone else min(1, most)
        keys = [key for key, _ in self.taken]
        first = {key for key in due if model.steps[key].first}
        if not least <= len(keys) <= most or not set(keys) <= set(due):
            return f"{most} of {due} may be claimed"
        if len(first.intersection(keys)) < min(len(first), len(keys)):
            return f"{first} come first"
        only_chunks = sum(map(model.is_only_chunk, keys))
        if [model.claim(key) for key in keys] != self.taken:
            return "other epochs"
        return f"took {len(keys)}, only chunks: {only_chunks}"

    def run(self, engine: Engine, held: dict[ClaimKey, Claim]) -> str:
        found = steps.claim_next(
            engine, self.queue, owner="test", lease_s=3600, limit=self.limit
        ).claims
        for claimed in found:
            key = ((claimed.job_id, str(claimed.kind), claimed.idx), claimed.epoch)
            self.taken.append(key)
            held[key] = claimed
        return f"took {len(found)}, only chunks: {sum(each.only_chunk for each in found)}"


@dataclass(frozen=True, slots=True)
class Write:
    """A worker writes, with a claim that it got at some time: current or not."""

    claim: ClaimKey
    what: str
    """release, postpone, retry, fail, complete, or add N."""
    only_chunk: bool = False
    """Whether the claim, as it was made, was that of a job's only chunk."""

    def apply(self, model: Model) -> str:
        if not model.is_current(self.claim):
            return "lease lost"
        key, _ = self.claim
        job_id = key[0]
        step, job = model.steps[key], model.jobs[job_id]
        match self.what.split():
            case ["release"]:
                step.state, step.first = "queued", True
                step.attempt -= 1
            case ["postpone"] if step.outages < MAX_OUTAGES - 1:
                step.state = "queued"
                step.attempt -= 1
                step.outages += 1
            case ["retry"] if step.attempt < MAX_ATTEMPTS:
                step.state = "queued"
            case ["postpone"] | ["retry"] | ["fail"]:
                model.fail(key)
            case ["add", n]:
                added = [model.add_step((job_id, "transcribe", idx)) for idx in range(int(n))]
                job.chunks_total += sum(added)
            case ["complete"]:
                model.complete(key, ends_job=self.only_chunk)
        return "written"

    def run(self, engine: Engine, held: dict[ClaimKey, Claim]) -> str:
        claimed = held[self.claim]
        writes: dict[str, Callable[[], None]] = {
            "release": lambda: steps.release(engine, claimed),
            "retry": lambda: steps.retry(engine, claimed, EngineFailed("broken"), base_s=0),
            "postpone": lambda: steps.retry(engine, claimed, StorageUnavailable("away"), base_s=0),
            "fail": lambda: steps.fail(engine, claimed, UnreadableMedia("a poem")),
            "complete": lambda: complete(engine, claimed),
            "add": lambda: steps.add_chunks(
                engine,
                claimed,
                [NewStep(idx, CHUNK) for idx in range(int(self.what[4:]))],
                max_attempts=MAX_ATTEMPTS,
            ),
        }
        try:
            writes[self.what.split()[0]]()
        except LeaseLost:
            return "lease lost"
        return "written"


@dataclass(frozen=True, slots=True)
class CompleteChunks:
    """A worker completes a batch of chunks at once, whether its claims are current or not."""

    claims: tuple[ClaimKey, ...]

    def apply(self, model: Model) -> str:
        lost = [claim for claim in self.claims if not model.is_current(claim)]
        for claim in self.claims:
            if claim not in lost:
                model.complete(claim[0])
        return f"lost {lost}"

    def run(self, engine: Engine, held: dict[ClaimKey, Claim]) -> str:
        results = [chunk_result(held[claim]) for claim in self.claims]
        lost = steps.complete_chunks(engine, results, max_attempts=MAX_ATTEMPTS)
        return f"lost {[claim for claim in self.claims if held[claim] in lost]}"


@dataclass(frozen=True, slots=True)
class Renew:
    """A heartbeat of a worker that believes to hold these."""

    claims: tuple[ClaimKey, ...]

    def apply(self, model: Model) -> str:
        return str(sorted(claim[1] for claim in self.claims if model.is_current(claim)))

    def run(self, engine: Engine, held: dict[ClaimKey, Claim]) -> str:
        kept = steps.renew(engine, [held[claim] for claim in self.claims], lease_s=3600)
        return str(sorted(epoch for _, epoch in kept))


@dataclass(frozen=True, slots=True)
class Reap:
    """A worker dies with a step in hand, and the sweeper finds out."""

    claim: ClaimKey

    def apply(self, model: Model) -> str:
        if not model.is_current(self.claim):
            return "0 reaped"
        step = model.steps[self.claim[0]]
        if step.attempt >= MAX_ATTEMPTS:
            model.fail(self.claim[0])
        else:
            step.state, step.first = "queued", True
        return "1 reaped"

    def run(self, engine: Engine, held: dict[ClaimKey, Claim]) -> str:
        if held[self.claim].epoch == epoch_of(engine, self.claim[0]):
            expire(engine, held[self.claim])
        return f"{steps.reap(engine)} reaped"


@dataclass(frozen=True, slots=True)
class Cancel:
    """A client cancels a job."""

    job_id: UUID

    def apply(self, model: Model) -> str:
        job = model.jobs[self.job_id]
        if job.state in ("succeeded", "failed"):
            return "ended already"
        if job.state in ACTIVE:
            model.end(self.job_id, "canceled")
            waiting = [
                job_id
                for job_id, other in model.jobs.items()
                if other.original == self.job_id and other.state == "queued"
            ]
            if waiting:
                promoted = min(waiting)
                for job_id in waiting:
                    model.jobs[job_id].original = None if job_id == promoted else promoted
                model.add_step((promoted, "prepare", 0))
        return "canceled"

    def run(self, engine: Engine, held: dict[ClaimKey, Claim]) -> str:
        try:
            cancel_job(engine, TENANT, self.job_id, max_attempts=MAX_ATTEMPTS)
        except JobEnded:
            return "ended already"
        return "canceled"


@dataclass(frozen=True, slots=True)
class RetryJob:
    """A client has a job tried again that failed or was canceled."""

    job_id: UUID

    def apply(self, model: Model) -> str:
        job = model.jobs[self.job_id]
        if job.state not in RETRYABLE:
            return "nothing to retry"
        job.state = "queued"
        job.run += 1
        if (self.job_id, "prepare", 0) not in model.steps:
            model.begin(self.job_id)
            return "queued"
        job.original = None
        for step in model.of_job(self.job_id):
            if step.state != "done":
                step.state, step.attempt, step.outages = "queued", 0, 0
                step.epoch += 1
                step.first = False
        return "queued"

    def run(self, engine: Engine, held: dict[ClaimKey, Claim]) -> str:
        try:
            retry_job(engine, TENANT, self.job_id, max_attempts=MAX_ATTEMPTS)
        except JobNotRetryable:
            return "nothing to retry"
        return "queued"


def complete(engine: Engine, claimed: Claim) -> None:
    """Complete a step of any kind."""
    match claimed.kind:
        case "prepare":
            steps.complete_prepare(
                engine, claimed, duration_s=2.0, metrics={}, max_attempts=MAX_ATTEMPTS
            )
        case "transcribe" if claimed.only_chunk:
            steps.complete_only_chunk(engine, chunk_result(claimed), folded(TRANSCRIPT))
        case "transcribe":
            transcribe(engine, claimed, max_attempts=MAX_ATTEMPTS)
        case "finish":
            finish(engine, claimed, TRANSCRIPT)


def chunk_result(claimed: Claim) -> ChunkResult:
    """Return what a model may have heard in a chunk: nothing."""
    return ChunkResult(claimed, hypothesis_to_json(Hypothesis(words=())), {}, audio_s=1.0)


def step_id(engine: Engine, key: StepKey) -> int:
    """Look a step up."""
    with engine.begin() as connection:
        found = text("SELECT id FROM steps WHERE job_id = :job AND kind = :kind AND idx = :idx")
        return int(
            connection.execute(found, {"job": key[0], "kind": key[1], "idx": key[2]}).scalar_one()
        )


def epoch_of(engine: Engine, key: StepKey) -> int:
    """Return a step's epoch."""
    with engine.begin() as connection:
        found = text("SELECT epoch FROM steps WHERE id = :id")
        return int(connection.execute(found, {"id": step_id(engine, key)}).scalar_one())
