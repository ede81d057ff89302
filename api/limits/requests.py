"""Requests a minute: counted in Redis for all API processes, and told in RateLimit headers.

A process takes requests out of the minute's count some at a time, so most requests are answered
without Redis. While Redis is away each process counts alone.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import redis.asyncio
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

WINDOW_S = 60
_AT_A_TIME = 600
"""A process takes this fraction of a minute's requests at a time, at least one."""
_LIMIT_S = 0.25
"""How long a request waits for Redis."""
_AGAIN_S = 5.0
"""How long Redis is not asked after it has failed."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of a tenant's requests in this minute."""

    limit: int
    remaining: int
    reset_s: int
    """Until the next minute."""
    is_exceeded: bool

    def add_to(self, headers: MutableHeaders) -> None:
        """Add the fields of draft-ietf-httpapi-ratelimit-headers to an answer's.

        ``Retry-After`` should not come before the end of the window that ``RateLimit`` tells
        (section 6 of the draft). So an answer that asks the client to come back sooner, for another
        reason, has the policy alone.
        """
        headers["RateLimit-Policy"] = f'"requests";q={self.limit};w={WINDOW_S}'
        if int(headers.get("Retry-After", self.reset_s)) >= self.reset_s:
            headers["RateLimit"] = f'"requests";r={self.remaining};t={self.reset_s}'


@dataclass(slots=True)
class _Taken:
    """What this process took out of a tenant's count in this minute."""

    count: int = 0
    """All processes' as it was seen last."""
    left: int = 0
    """Taken, and not used yet."""
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while more are taken, so that a burst of requests asks Redis once."""

    def is_empty(self, limit: int) -> bool:
        """Whether more must be taken, and there may be some."""
        return not self.left and self.count < limit


class RequestCounter:
    """Counts the requests of tenants. For use on one event loop only."""

    def __init__(self, broker_url: str, *, clock: Callable[[], float] = time.time) -> None:
        """Connect to nothing yet; ``clock`` is in seconds since the epoch."""
        self._pool = redis.asyncio.ConnectionPool.from_url(
            broker_url,
            socket_connect_timeout=_LIMIT_S,
            socket_timeout=_LIMIT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._shared = RedisStorage(
            f"async+{broker_url}",
            implementation="redispy",
            key_prefix="requests",
            connection_pool=cast(Any, self._pool),
        )
        self._own: Storage = MemoryStorage()
        self._clock = clock
        self._minute = 0
        self._taken: dict[str, _Taken] = {}
        self._ask_at = -math.inf
        self._is_away = False

    async def count(self, tenant: str, limit: int) -> Quota:
        """Count a request of a tenant that may send ``limit`` in a minute."""
        now = self._clock()
        minute = int(now // WINDOW_S)
        if minute != self._minute:
            self._minute, self._taken = minute, {}
        taken = self._taken.setdefault(tenant, _Taken())
        if taken.is_empty(limit):
            async with taken.taking:
                if taken.is_empty(limit):
                    n = max(1, limit // _AT_A_TIME)
                    count = await self._add(f"{tenant}/{minute}", n)
                    taken.count = max(taken.count, count)
                    taken.left += max(0, min(n, limit - (count - n)))
        is_exceeded = not taken.left
        taken.left -= not is_exceeded
        return Quota(
            limit=limit,
            remaining=max(0, limit - taken.count) + taken.left,
            reset_s=math.ceil((minute + 1) * WINDOW_S - now),
            is_exceeded=is_exceeded,
        )

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.aclose()

    async def _add(self, key: str, n: int) -> int:
        """Add to a count and return it."""
        clock = asyncio.get_running_loop().time
        if clock() >= self._ask_at:
            try:
                async with asyncio.timeout(_LIMIT_S):
                    count = await self._shared.incr(key, 2 * WINDOW_S, n)
            except (RedisError, OSError, TimeoutError) as error:
                if not self._is_away:
                    log.warning("each process counts requests alone: Redis is away: %r", error)
                self._is_away, self._ask_at = True, clock() + _AGAIN_S
            else:
                self._is_away = False
                return count
        return await self._own.incr(key, 2 * WINDOW_S, n)


class RateLimitHeaders:
    """ASGI middleware: every answer has the quota that ``count_request`` has found."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or socket."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] in _STARTS and (quota := scope.get("state", {}).get("quota")):
                quota.add_to(MutableHeaders(raw=message.setdefault("headers", [])))
            await send(message)

        await self._app(scope, receive, send_with_headers)


_STARTS = ("http.response.start", "websocket.http.response.start")
"""The second begins the answer to a handshake that is refused."""
