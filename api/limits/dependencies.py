"""What every route does that is asked by a tenant."""

from fastapi.requests import HTTPConnection

from api.access.principal import Principal
from api.resources import Provided
from shared.infra.errors import RateLimited


async def count_request(connection: HTTPConnection, resources: Provided) -> None:
    """Count a request against its tenant's limit; a dependency of routes, after ``authorize``.

    Requests to public routes are nobody's.

    Raises:
        RateLimited: the tenant has sent too many in this minute.
    """
    principal: Principal | None = getattr(connection.state, "principal", None)
    if principal is None:
        return
    limit = (await resources.limits.get(principal.tenant)).requests_per_minute
    if not limit:
        return
    quota = await resources.request_counter.count(principal.tenant, limit)
    connection.state.quota = quota
    if quota.is_exceeded:
        raise RateLimited(
            f"you have sent as many requests in this minute as you may: {limit:,}", quota.reset_s
        )
