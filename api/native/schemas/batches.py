"""Batches and what became of their jobs."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.store.states import JobState


class ItemProblem(BaseModel):
    """Why a job of a batch was refused, as in a problem answer."""

    model_config = ConfigDict(extra="allow")

    title: str = Field(description="the phrase of the HTTP status")
    status: int
    code: str = Field(description="stable and machine-readable")
    detail: str = Field(description="one sentence for a person")


class BatchItem(BaseModel):
    """What became of a job of a batch: it was taken, or there is a problem."""

    index: int = Field(description="its place in the request, from 0")
    job_id: UUID | None = Field(description="null: it was refused")
    location: str | None = Field(description="the job's path")
    problem: ItemProblem | None = Field(description="null: it was taken")


class NewBatchAnswer(BaseModel):
    """What became of the jobs of a batch."""

    batch_id: UUID | None = Field(description="null: all were refused, so there is no batch")
    accepted: int
    refused: int
    results: list[BatchItem]


class BatchCounts(BaseModel):
    """Jobs of a batch, by state."""

    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int


class BatchStatus(BaseModel):
    """How far a batch is."""

    id: UUID
    jobs: int = Field(description="that were taken with it; those deleted since are in no count")
    counts: BatchCounts
    created_at: datetime
    completed_at: datetime | None = Field(
        description="when all of its jobs had ended for the first time; null: some have not"
    )


def counts_of(by_state: dict[JobState, int]) -> BatchCounts:
    """Return the wire form of counts."""
    return BatchCounts(**{str(state): n for state, n in by_state.items()})
