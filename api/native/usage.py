"""What a tenant has used."""

import re
from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BeforeValidator

from api.access.routes import needs
from api.native.schemas.usage import Amounts, Day, Usage
from api.openapi import problems
from api.resources import Provided, Tenant
from shared.infra.errors import ConflictingOptions
from shared.store.accounts.scopes import Scope
from shared.store.usage import read_usage

router = APIRouter(tags=["usage"])

USUAL_DAYS = 30
MAX_DAYS = 366
_DIGITS = 3


def _check_date(value: str) -> str:
    # Pydantic takes numbers and points in time, too.
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("a date is written as 2026-11-27")
    return value


FullDate = Annotated[date, BeforeValidator(_check_date)]
"""As in RFC 3339."""


@needs(Scope.JOBS_READ)
@router.get("/usage", summary="See what was used", responses=problems(ConflictingOptions))
def show_usage(
    resources: Provided,
    tenant: Tenant,
    first: Annotated[
        FullDate | None, Query(alias="from", description="UTC; omitted: 29 days before `to`")
    ] = None,
    last: Annotated[FullDate | None, Query(alias="to", description="UTC; omitted: today")] = None,
) -> Usage:
    """Return what was transcribed on each day, for a year at most.

    A job counts on the day on which it ended, also if it is deleted later.
    """
    last = last or datetime.now(UTC).date()
    first = first or date.fromordinal(max(1, last.toordinal() - USUAL_DAYS + 1))
    if not 0 <= (last - first).days < MAX_DAYS:
        raise ConflictingOptions(f"from must be before to, by less than {MAX_DAYS} days")
    days = [
        Day(
            day=each.day,
            jobs=each.jobs,
            audio_s=round(each.audio_s, _DIGITS),
            model_s=round(each.model_s, _DIGITS),
            live_s=round(each.live_s, _DIGITS),
        )
        for each in read_usage(resources.engine, tenant, first, last)
    ]
    total = Amounts(
        jobs=sum(day.jobs for day in days),
        audio_s=round(sum(day.audio_s for day in days), _DIGITS),
        model_s=round(sum(day.model_s for day in days), _DIGITS),
        live_s=round(sum(day.live_s for day in days), _DIGITS),
    )
    return Usage(total=total, days=days)
