"""What clients, workers and the sweeper do to the step store, and what it promises to make of it.

An ``Operation`` is done both ways: ``apply`` to a ``Model``, ``run`` on Postgres. Both say what
came of it in the same words.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from jobstore import CHUNK, TRANSCRIPT, claim_step, expire, finish, new_job, transcribe
from sqlalchemy import Engine, text
from storemodel import ACTIVE, RETRYABLE, ClaimKey, MJob, Model, StepKey

from shared.infra.errors import (
    EngineFailed,
    JobEnded,
    JobNotRetryable,
    LeaseLost,
    StorageUnavailable,
    UnreadableMedia,
)
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.create import create_job
from shared.store.jobs.retry import retry_job
from shared.store.steps import Claim, NewStep
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
    """A message arrives, be it the first or a copy."""

    key: StepKey

    def apply(self, model: Model) -> str:
        step, job = model.steps[self.key], model.jobs[self.key[0]]
        if step.state != "queued" or job.state not in ACTIVE:
            return "nothing to claim"
        step.state, job.state = "running", "running"
        step.attempt += 1
        step.epoch += 1
        return f"epoch {step.epoch}"

    def run(self, engine: Engine, held: dict[ClaimKey, Claim]) -> str:
        claimed = claim_step(engine, step_id(engine, self.key), owner="test", lease_s=3600)
        if claimed is None:
            return "nothing to claim"
        held[self.key, claimed.epoch] = claimed
        return f"epoch {claimed.epoch}"


@dataclass(frozen=True, slots=True)
class Write:
    """A worker writes, with a claim that it got at some time: current or not."""

    claim: ClaimKey
    what: str
    """release, postpone, retry, fail, complete, or add N."""

    def apply(self, model: Model) -> str:
        if not model.is_current(self.claim):
            return "lease lost"
        key, _ = self.claim
        job_id, kind, _ = key
        step, job = model.steps[key], model.jobs[job_id]
        match self.what.split():
            case ["release"]:
                step.state = "queued"
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
                step.state = "done"
                match kind:
                    case "prepare":
                        job.plan_complete = True
                        model.finish_if_complete(job_id)
                    case "transcribe":
                        job.chunks_done += 1
                        model.finish_if_complete(job_id)
                    case "finish":
                        job.state = "succeeded"
                        model.share(job_id)
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
            step.state = "queued"
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
            job.state = "canceled"
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
        case "transcribe":
            transcribe(engine, claimed, max_attempts=MAX_ATTEMPTS)
        case "finish":
            finish(engine, claimed, TRANSCRIPT)


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
