"""Tenants and their API keys, for administrators of the whole platform."""

from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request

from api.access.routes import needs
from api.access.schemas import (
    KeyInfo,
    KeyList,
    KeyWithSecret,
    NewKey,
    NewTenant,
    TenantInfo,
    TenantList,
)
from api.intake.bodies import json_body, read_json
from api.native.ids import KeyId
from api.native.schemas import members
from api.openapi import BODY_ERRORS, problems
from api.resources import Provided
from shared.infra.errors import KeyNotFound, TenantExists, TenantNotFound
from shared.store.accounts import TENANT_PATTERN, keys, tenants
from shared.store.accounts.scopes import Scope

router = APIRouter(prefix="/admin", tags=["access"])


@needs(Scope.ADMIN)
@router.get("/tenants", summary="List tenants", responses=problems())
def show_tenants(resources: Provided) -> TenantList:
    """List all tenants, by id."""
    found = tenants.list_tenants(resources.engine)
    return TenantList.model_validate({"tenants": found}, from_attributes=True)


@needs(Scope.ADMIN)
@router.post(
    "/tenants",
    summary="Add a tenant",
    status_code=201,
    response_model=TenantInfo,
    openapi_extra=json_body(NewTenant),
    responses=problems(*BODY_ERRORS, TenantExists),
)
async def add_tenant(request: Request, resources: Provided) -> TenantInfo:
    """Add a tenant. It sees nothing of others, and they see nothing of it."""
    new = await read_json(request, NewTenant)
    add = partial(tenants.create_tenant, resources.engine, new.id, new.name)
    return TenantInfo(**members(await to_thread.run_sync(add)))


@needs(Scope.ADMIN)
@router.get("/keys", summary="List the keys of the API", responses=problems())
def show_keys(
    resources: Provided,
    tenant: Annotated[
        str | None, Query(description="of this tenant alone", pattern=TENANT_PATTERN)
    ] = None,
) -> KeyList:
    """List the API keys of all tenants, without the keys themselves."""
    found = keys.list_keys(resources.engine, tenant)
    return KeyList.model_validate({"keys": found}, from_attributes=True)


@needs(Scope.ADMIN)
@router.post(
    "/keys",
    summary="Make a key of the API",
    status_code=201,
    response_model=KeyWithSecret,
    openapi_extra=json_body(NewKey),
    responses=problems(*BODY_ERRORS, TenantNotFound),
)
async def add_key(request: Request, resources: Provided) -> KeyWithSecret:
    """Make an API key. The answer's `key` is not shown again.

    A tenant may have several, so that a new key is in use before the old one is revoked.
    """
    new = await read_json(request, NewKey)
    make = partial(
        keys.create_key,
        resources.engine,
        new.tenant,
        new.name,
        list(map(Scope, new.scopes)),
        expires_in_s=new.expires_in_s,
    )
    view, key = await to_thread.run_sync(make)
    return KeyWithSecret(**members(view), key=key)


@needs(Scope.ADMIN)
@router.delete("/keys/{key_id}", summary="Revoke a key of the API", responses=problems(KeyNotFound))
def revoke_key(key_id: KeyId, resources: Provided) -> KeyInfo:
    """Revoke a key, for good: within a second every API process refuses it."""
    return KeyInfo(**members(keys.revoke_key(resources.engine, key_id)))
