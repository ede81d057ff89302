"""Tokens with which a page opens one WebSocket: they last a minute, and are used up by their use.

A page that knows a key could be read by whoever sees the page. So its server, which has the key,
asks for a token and gives it to the page. A token is a value in Redis, which one command reads and
deletes: of several sockets that offer it at the same moment one is admitted. Of the token only the
SHA-256 is kept there.
"""

import asyncio
import hashlib
import json
import secrets
from dataclasses import dataclass

from shared.infra.errors import BrokerUnavailable
from shared.infra.settings import Settings
from shared.queue.live import keys

PREFIX = "lh_once_"
LIFETIME_S = 60
_LIMIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token stands for."""

    tenant: str
    scopes: frozenset[str]
    key_digest: bytes | None
    """Of the API key that asked for it, which must be valid still; None: it was no key."""


class SocketTokens:
    """Tokens in Redis. For use on one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet."""
        self._redis = keys.connect_async(settings)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def issue(self, grant: Grant) -> str:
        """Return a new token.

        Raises:
            BrokerUnavailable: Redis does not keep it.
        """
        token = PREFIX + secrets.token_urlsafe(24)
        value = {
            "tenant": grant.tenant,
            "scopes": sorted(grant.scopes),
            "key": None if grant.key_digest is None else grant.key_digest.hex(),
        }
        try:
            async with asyncio.timeout(_LIMIT_S):
                await self._redis.set(_name(token), json.dumps(value), ex=LIFETIME_S)
        except keys.OUTAGES as error:
            raise BrokerUnavailable("Redis cannot be reached") from error
        return token

    async def use_up(self, token: str) -> Grant | None:
        """Return what a token stands for, once; None: it is unknown, used up or too old.

        Raises:
            BrokerUnavailable: Redis does not tell.
        """
        try:
            async with asyncio.timeout(_LIMIT_S):
                held = await self._redis.getdel(_name(token))
        except keys.OUTAGES as error:
            raise BrokerUnavailable("Redis cannot be reached") from error
        if held is None:
            return None
        value = json.loads(held)
        key = value["key"]
        return Grant(
            value["tenant"], frozenset(value["scopes"]), None if key is None else bytes.fromhex(key)
        )


def _name(token: str) -> str:
    return f"live:token:{hashlib.sha256(token.encode()).hexdigest()}"
