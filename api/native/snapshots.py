"""Jobs for ``GET /jobs/{id}``, read for all requests that ask at the same moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple
from uuid import UUID

from api.loader import Loader
from api.resources import Resources, from_state
from shared.infra.database import read
from shared.infra.errors import JobNotFound
from shared.store.jobs.read import JobView, own_job, read_jobs
from shared.store.jobs.waits import Waiting, read_waits
from shared.store.states import JobState
from shared.store.transcripts import StoredTranscript, short_transcripts

_THREADS = 2
_AT_ONCE = 50


class JobKey(NamedTuple):
    """A job, and who asks for it."""

    tenant: str
    job_id: UUID
    with_waiting: bool = True
    """Whether to find out what the job waits for."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job, what it waits for, and its transcript if that is short."""

    view: JobView
    waiting: Waiting | None
    """None, too, if that was not asked for."""
    short_transcript: StoredTranscript | None
    """Without words; None if the job has none, a long one, or just lost it."""


Snapshots = Loader[JobKey, Snapshot]


def make_loader(resources: Resources) -> Snapshots:
    """Return what reads jobs for requests."""
    return Loader("jobs", partial(_load, resources), threads=_THREADS, at_once=_AT_ONCE)


def _load(resources: Resources, keys: Sequence[JobKey]) -> Mapping[JobKey, Snapshot | JobNotFound]:
    loaded: dict[JobKey, Snapshot | JobNotFound] = {}
    for tenant in {key.tenant for key in keys}:
        own = [key for key in keys if key.tenant == tenant]
        loaded |= _load_own(resources, tenant, own)
    return loaded


def _load_own(
    resources: Resources, tenant: str, keys: Sequence[JobKey]
) -> dict[JobKey, Snapshot | JobNotFound]:
    with read(resources.engine, tenant) as connection:
        found = read_jobs(connection, {key.job_id for key in keys})
        succeeded = [view.id for view in found.values() if view.state == JobState.SUCCEEDED]
        transcripts = short_transcripts(connection, succeeded) if succeeded else {}
        asked = {key.job_id for key in keys if key.with_waiting}
        active = [view.id for view in found.values() if view.id in asked and not view.ended]
        live_s = resources.settings.live_s
        waits = read_waits(connection, active, live_s=live_s) if active else {}
    loaded: dict[JobKey, Snapshot | JobNotFound] = {}
    for key in keys:
        try:
            view = own_job(found, key.tenant, key.job_id)
        except JobNotFound as error:
            loaded[key] = error
        else:
            loaded[key] = Snapshot(view, waits.get(view.id), transcripts.get(view.id))
    return loaded


Provided = Annotated[Snapshots, from_state("snapshots")]
