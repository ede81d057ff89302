"""A model of the step store in some lines of Python; ``store_operations`` changes it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Engine, text

from shared.store.queues import CPU_QUEUE, model_queue

ACTIVE = ("queued", "running")
RETRYABLE = ("failed", "canceled")
QUEUES = {
    "prepare": CPU_QUEUE,
    "finish": CPU_QUEUE,
    "transcribe": model_queue("oracle"),
}
"""Of each kind of step."""

StepKey = tuple[UUID, str, int]
"""Job, kind and number."""
ClaimKey = tuple[StepKey, int]
"""A step and an epoch of it."""


@dataclass(slots=True)
class MStep:
    """A step, as it should be."""

    state: str = "queued"
    attempt: int = 0
    outages: int = 0
    epoch: int = 0
    first: bool = field(default=False, compare=False)
    """It was given back or reaped: it is claimed before others, and Postgres has that as a rank."""


@dataclass(slots=True)
class MJob:
    """A job, as it should be."""

    fingerprint: str | None
    state: str = "queued"
    run: int = 1
    original: UUID | None = None
    cached: bool = False
    plan_complete: bool = False
    chunks_total: int = 0
    chunks_done: int = 0


@dataclass(slots=True)
class Model:
    """All jobs and steps, as they should be."""

    jobs: dict[UUID, MJob] = field(default_factory=dict)
    steps: dict[StepKey, MStep] = field(default_factory=dict)

    def is_current(self, claim: ClaimKey) -> bool:
        """Whether a claim still holds its step."""
        key, epoch = claim
        return (self.steps[key].state, self.steps[key].epoch) == ("running", epoch)

    def claim(self, key: StepKey) -> ClaimKey:
        """Queued -> running."""
        step = self.steps[key]
        step.state, self.jobs[key[0]].state = "running", "running"
        step.attempt += 1
        step.epoch += 1
        step.first = False
        return key, step.epoch

    def is_only_chunk(self, key: StepKey) -> bool:
        """Whether a step is the one chunk of its job, and no more are planned."""
        job = self.jobs[key[0]]
        return key[1] == "transcribe" and job.plan_complete and job.chunks_total == 1

    def due(self, queue: str) -> list[StepKey]:
        """Return the steps that wait in a queue."""
        return [
            key
            for key, step in self.steps.items()
            if step.state == "queued" and queue == QUEUES[key[1]]
        ]

    def complete(self, key: StepKey, *, ends_job: bool = False) -> None:
        """Running -> done; the only chunk of a file may end its job."""
        job_id, kind, _ = key
        job = self.jobs[job_id]
        self.steps[key].state = "done"
        if kind == "transcribe":
            job.chunks_done += 1
        elif kind == "prepare":
            job.plan_complete = True
        if kind == "finish" or ends_job:
            self.end(job_id, "succeeded")
            self.share(job_id)
        elif job.plan_complete and job.chunks_done == job.chunks_total:
            self.add_step((job_id, "finish", 0))

    def end(self, job_id: UUID, state: str) -> None:
        """A job ends, and voids what it leaves undone."""
        self.jobs[job_id].state = state
        for step in self.of_job(job_id):
            if step.state in ("queued", "running"):
                step.state = "void"

    def of_job(self, job_id: UUID) -> Iterator[MStep]:
        """Yield a job's steps."""
        return (step for key, step in self.steps.items() if key[0] == job_id)

    def add_step(self, key: StepKey) -> bool:
        """Nothing -> queued, unless it is there."""
        if key in self.steps:
            return False
        self.steps[key] = MStep()
        return True

    def begin(self, job_id: UUID) -> None:
        """A new job, or one retried that has no steps: computed, shared, or to wait."""
        job = self.jobs[job_id]
        equal = [
            (other.state == "succeeded", other_id)
            for other_id, other in self.jobs.items()
            if other_id != job_id
            and job.fingerprint is not None
            and other.fingerprint == job.fingerprint
            and other.original is None
            and other.state in (*ACTIVE, "succeeded")
        ]
        job.original = max(equal)[1] if equal else None
        if job.original is None:
            self.add_step((job_id, "prepare", 0))
        else:
            self.share(job.original)

    def share(self, original_id: UUID) -> None:
        """Jobs that wait for one that has succeeded succeed with it."""
        original = self.jobs[original_id]
        for job in self.jobs.values():
            waits = job.original == original_id and job.state == "queued"
            if waits and original.state == "succeeded":
                job.state, job.cached, job.plan_complete = "succeeded", True, True
                job.chunks_total, job.chunks_done = original.chunks_total, original.chunks_done

    def fail(self, key: StepKey) -> None:
        """A step fails for good, its job with it, and with that one the jobs that wait."""
        self.steps[key].state = "failed"
        self.end(key[0], "failed")
        for job in self.jobs.values():
            if job.original == key[0] and job.state == "queued":
                job.state = "failed"


def read_model(engine: Engine, fingerprints: dict[UUID, str | None]) -> Model:
    """Return what Postgres has, in the model's terms."""
    with engine.begin() as connection:
        jobs = connection.execute(text("SELECT * FROM jobs")).all()
        found = connection.execute(
            text("SELECT job_id, kind, idx, state, attempt, outages, epoch FROM steps")
        ).all()
    return Model(
        jobs={
            row.id: MJob(
                fingerprint=fingerprints[row.id],
                state=row.state,
                run=row.run,
                original=row.original_id,
                cached=row.cached,
                plan_complete=row.plan_complete,
                chunks_total=row.chunks_total,
                chunks_done=row.chunks_done,
            )
            for row in jobs
        },
        steps={
            (row.job_id, row.kind, row.idx): MStep(row.state, row.attempt, row.outages, row.epoch)
            for row in found
        },
    )
