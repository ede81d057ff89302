"""JWTs of an OpenID Connect issuer, whose keys are fetched and remembered.

The issuer's address is the operator's, not a client's, so it may be private: the guard of
``shared.infra.outbound`` does not apply.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt

from api.access.principal import Principal
from shared.infra.errors import IssuerUnavailable, Unauthenticated
from shared.infra.settings import Settings
from shared.store.accounts import TENANT_PATTERN
from shared.store.accounts.scopes import ALL_SCOPES

log = logging.getLogger("api.access")

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""All asymmetric: a public key is no secret that a token could be signed with."""

LEEWAY_S = 30
"""How far the issuer's clock may be from ours."""
KEEP_S = 3600.0
"""How long the issuer's keys are used without being fetched again."""
PAUSE_S = 10.0
"""How often they are fetched at most, whatever key ids tokens name."""
_LIMIT_S = 3.0
_MAX_KEYS_BYTES = 512 * 1024


def looks_like_jwt(credential: str) -> bool:
    """Whether a credential has the form of a JWT."""
    return credential.count(".") == 2


class Issuer:
    """The issuer of the settings. For use on one event loop."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """Ask for nothing yet."""
        self._settings = settings
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._asked_at = -float("inf")
        self._turn = asyncio.Lock()

    @property
    def is_known(self) -> bool:
        """Whether there is one: else no JWT is taken."""
        return bool(self._settings.jwt_issuer)

    async def principal(self, token: str) -> Principal:
        """Return whom a JWT speaks for.

        Raises:
            Unauthenticated: the issuer has not signed it, or it is not for us, or not now.
            IssuerUnavailable: the issuer's keys are needed, and cannot be fetched.
        """
        settings = self._settings
        try:
            key_id = jwt.get_unverified_header(token).get("kid", "")
            key = await self._key(str(key_id))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the JWT is not valid: {type(error).__name__}") from error
        tenant = claims.get(settings.jwt_tenant_claim)
        if not isinstance(tenant, str) or not re.fullmatch(TENANT_PATTERN, tenant):
            raise Unauthenticated("the JWT names no tenant")
        return Principal(tenant, _scopes(claims.get(settings.jwt_scopes_claim)), None)

    async def _key(self, key_id: str) -> jwt.PyJWK:
        known = self._keys.get(key_id)
        if known is not None and self._clock() - self._fetched_at <= KEEP_S:
            return known  # without a turn: whoever names unknown keys makes nobody else wait
        async with self._turn:
            now = self._clock()
            is_old = now - self._fetched_at > KEEP_S
            if (is_old or key_id not in self._keys) and now - self._asked_at >= PAUSE_S:
                self._asked_at = now
                await self._fetch()
            if key_id in self._keys:
                return self._keys[key_id]
            if self._fetched_at < self._asked_at:  # the last time, the issuer did not answer
                raise IssuerUnavailable("the issuer of JWTs does not tell its keys")
        raise jwt.InvalidKeyError("the issuer has no such key")

    async def _fetch(self) -> None:
        """Replace the keys; the old ones stay where the issuer does not answer."""
        settings = self._settings
        try:
            async with asyncio.timeout(_LIMIT_S), httpx.AsyncClient(timeout=_LIMIT_S) as client:
                url = settings.jwt_jwks_url
                if not url:
                    where = f"{settings.jwt_issuer.rstrip('/')}/.well-known/openid-configuration"
                    url = str((await self._read(client, where))["jwks_uri"])
                found = jwt.PyJWKSet.from_dict(await self._read(client, url))
        except (httpx.HTTPError, httpx.InvalidURL, jwt.PyJWTError, ValueError, KeyError, TypeError,
                TimeoutError) as error:  # fmt: skip
            log.warning("the keys of the JWTs' issuer cannot be fetched: %s", type(error).__name__)
            return
        self._keys = {key.key_id or "": key for key in found.keys}
        self._fetched_at = self._asked_at

    async def _read(self, client: httpx.AsyncClient, url: str) -> Any:
        response = (await client.get(url)).raise_for_status()
        if len(response.content) > _MAX_KEYS_BYTES:
            raise ValueError("too long")
        return response.json()


def _scopes(claim: object) -> frozenset[str]:
    """Return those scopes in a claim that exist; the claim is a list, or separated by spaces."""
    named = claim.split() if isinstance(claim, str) else claim
    if not isinstance(named, list):
        return frozenset()
    return frozenset(scope for scope in map(str, ALL_SCOPES) if scope in named)
