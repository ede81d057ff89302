"""Jobs that fail or are canceled, and their retry."""

from uuid import UUID

import pytest
from sqlalchemy import Engine

from harness.jobs.job_store import claim, step_ids
from shared.infra.errors import (
    EngineFailed,
)
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.read import JobView, get_job
from shared.store.jobs.retry import retry_job
from shared.store.retention import expire_audio
from shared.store.states import JobState


def retry(database: Engine, job_id: UUID, tenant: str = "default") -> None:
    retry_job(database, tenant, job_id, max_attempts=2)


def view(database: Engine, job_id: UUID) -> JobView:
    return get_job(database, "default", job_id)


def fail(database: Engine, job_id: UUID, kind: str = "prepare", idx: int = 0) -> None:
    steps.fail(database, claim(database, job_id, kind, idx), EngineFailed("it broke down"))


def cancel(database: Engine, job_id: UUID) -> None:
    cancel_job(database, "default", job_id, max_attempts=2)


def end(database: Engine, job_id: UUID, how: str, kind: str = "prepare", idx: int = 0) -> None:
    """End a job while the step named is its next one: that one fails, or the owner cancels."""
    if how == "failed":
        fail(database, job_id, kind, idx)
    else:
        claim(database, job_id, kind, idx)
        cancel(database, job_id)
    assert view(database, job_id).state == how


def lose_audio(database: Engine, how: str) -> None:
    assert expire_audio(database, JobState(how), keep_s=0, limit=100)


def computes(database: Engine, job_id: UUID) -> bool:
    return bool(step_ids(database, job_id, "prepare"))


HOW = pytest.mark.parametrize("how", ["failed", "canceled"])
