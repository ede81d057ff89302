"""Jobs as they are shown, with what they wait for."""

from collections.abc import Sequence

from api.native.schemas.jobs import JobSummary
from api.resources import Resources
from shared.store.jobs.read import JobView
from shared.store.jobs.waits import Waiting, find_waits


def summarize_jobs(resources: Resources, views: Sequence[JobView]) -> list[JobSummary]:
    """Return the wire form of jobs; one query tells what all of them wait for.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    active = [view.id for view in views if not view.ended]
    waits = find_waits(resources.engine, active, live_s=resources.settings.live_s)
    return [JobSummary.of(view, waits.get(view.id)) for view in views]


def what_it_waits_for(resources: Resources, view: JobView) -> Waiting | None:
    """Return what a job waits for, if it does not only wait for its turn."""
    if view.ended:
        return None
    live_s = resources.settings.live_s
    return find_waits(resources.engine, [view.id], live_s=live_s).get(view.id)
