"""What every route does that is asked by a tenant."""

from fastapi import Request

from api.resources import Provided, Tenant
from shared.infra.errors import RateLimited


async def count_request(request: Request, resources: Provided, tenant: Tenant) -> None:
    """Count a request against its tenant's limit; a dependency of routes.

    Raises:
        RateLimited: the tenant has sent too many in this minute.
    """
    limit = (await resources.limits.get(tenant)).requests_per_minute
    if not limit:
        return
    quota = await resources.request_counter.count(tenant, limit)
    request.state.rate_limit = quota.headers
    if quota.is_exceeded:
        raise RateLimited(
            f"you have sent as many requests in this minute as you may: {limit}", quota.reset_s
        )
