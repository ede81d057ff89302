"""Sessions of the page: what an API key becomes in a browser, which must not keep the key itself.

A session is a random token in a cookie that scripts cannot read. Redis has, under the token's
SHA-256, the SHA-256 of the key that opened it. So a session ends with its key, and when Redis loses
its data. A cookie comes with every request to us, whichever page sent it: requests that change
something must also have the session's CSRF token, which only our own page can read.
"""

import asyncio
import hashlib
import hmac
import secrets

from starlette.datastructures import Headers

from api.access.cookies import cookie_in
from shared.infra.errors import BrokerUnavailable
from shared.infra.settings import Settings
from shared.queue.live import keys

COOKIE = "longhand_session"
CSRF_HEADER = "X-CSRF-Token"
IDLE_S = 12 * 3600
"""A session ends when it is not used for this long."""
_LIMIT_S = 1.0


class PageSessions:
    """Sessions in Redis. For use on one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet."""
        self._redis = keys.connect_async(settings)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def open(self, key_digest: bytes) -> str:
        """Return the token of a new session of the API key with this SHA-256.

        Raises:
            BrokerUnavailable: Redis does not keep it.
        """
        session = secrets.token_urlsafe(32)
        try:
            async with asyncio.timeout(_LIMIT_S):
                await self._redis.set(_name(session), key_digest.hex(), ex=IDLE_S)
        except keys.OUTAGES as error:
            raise BrokerUnavailable("Redis cannot be reached") from error
        return session

    async def key_digest(self, session: str) -> bytes | None:
        """Return the SHA-256 of a session's key; None: there is no such session, or no more.

        Raises:
            BrokerUnavailable: Redis does not tell.
        """
        try:
            async with asyncio.timeout(_LIMIT_S):
                held = await self._redis.getex(_name(session), ex=IDLE_S)
        except keys.OUTAGES as error:
            raise BrokerUnavailable("Redis cannot be reached") from error
        return None if held is None else bytes.fromhex(held.decode())

    async def end(self, session: str) -> None:
        """Forget a session.

        Raises:
            BrokerUnavailable: Redis cannot be reached.
        """
        try:
            async with asyncio.timeout(_LIMIT_S):
                await self._redis.delete(_name(session))
        except keys.OUTAGES as error:
            raise BrokerUnavailable("Redis cannot be reached") from error


def session_in(headers: Headers) -> str:
    """Return the session that a request's cookie names; "" if there is none."""
    return cookie_in(headers, COOKIE)


def csrf_token(session: str) -> str:
    """Return the token that shows that a request comes from the page of this session."""
    return hashlib.sha256(f"csrf:{session}".encode()).hexdigest()


def is_csrf_token(given: str, session: str) -> bool:
    """Whether this is the session's token."""
    return hmac.compare_digest(given.encode(), csrf_token(session).encode())


def _name(session: str) -> str:
    return f"page:session:{hashlib.sha256(session.encode()).hexdigest()}"
