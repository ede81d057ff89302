"""Limits of tenants, for administrators of the whole platform."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Request

from api.access.routes import needs
from api.intake.bodies import json_body, read_json
from api.limits.schemas import LimitsChange, LimitsInForce, OwnLimits, TenantLimits
from api.openapi import BODY_ERRORS, problems
from api.resources import Provided, Resources
from shared.infra.errors import TenantNotFound
from shared.store.accounts import TENANT_PATTERN
from shared.store.accounts.scopes import Scope
from shared.store.limits import Limits, change_limits, get_limits

router = APIRouter(prefix="/admin", tags=["access"])


async def _tenant_id(tenant_id: str) -> str:
    if not re.fullmatch(TENANT_PATTERN, tenant_id):
        raise TenantNotFound(f"there is no tenant {tenant_id}")
    return tenant_id


TenantId = Annotated[str, Depends(_tenant_id)]


@needs(Scope.ADMIN)
@router.get(
    "/tenants/{tenant_id}/limits",
    summary="See a tenant's limits",
    responses=problems(TenantNotFound),
)
def show_limits(tenant_id: TenantId, resources: Provided) -> TenantLimits:
    """Show what differs from the platform's defaults for a tenant, and what holds for it."""
    return _answer(resources, get_limits(resources.engine, tenant_id))


@needs(Scope.ADMIN)
@router.patch(
    "/tenants/{tenant_id}/limits",
    summary="Change a tenant's limits",
    response_model=TenantLimits,
    openapi_extra=json_body(LimitsChange),
    responses=problems(*BODY_ERRORS, TenantNotFound),
)
async def set_limits(tenant_id: TenantId, request: Request, resources: Provided) -> TenantLimits:
    """Change the limits that the body names; null takes the platform's default again.

    All API processes keep to them within a second.
    """
    change = (await read_json(request, LimitsChange)).model_dump(exclude_unset=True)
    apply = partial(change_limits, resources.engine, tenant_id, change)
    return _answer(resources, await to_thread.run_sync(apply))


def _answer(resources: Resources, own: Mapping[str, float]) -> TenantLimits:
    in_force = asdict(Limits.of(resources.settings).with_own(own))
    return TenantLimits(own=OwnLimits.model_validate(own), in_force=LimitsInForce(**in_force))
