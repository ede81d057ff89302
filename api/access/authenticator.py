"""From a credential to a principal."""

import logging

from sqlalchemy import Engine
from starlette.datastructures import Headers
from starlette.websockets import WebSocket

from api.access import socket_tokens
from api.access.credentials import find_credential
from api.access.jwt import Issuer, looks_like_jwt
from api.access.keys import Keys
from api.access.principal import ANYBODY, Principal
from shared.infra.api_keys import check_key, digest_of
from shared.infra.errors import InvalidRequest, ScopeMissing, Unauthenticated
from shared.infra.settings import Settings
from shared.store.accounts.scopes import Scope

log = logging.getLogger("api.access")

_REFUSAL = "a valid API key is needed, as in 'Authorization: Bearer lh_live_...'"


class Authenticator:
    """Knows who asks. For use on one event loop."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        """Connect to nothing yet."""
        self.is_on = settings.auth == "on"
        self._keys = Keys(engine)
        self._issuer = Issuer(settings)
        self._tokens = socket_tokens.SocketTokens(settings)

    async def close(self) -> None:
        """Look nothing up any more."""
        self._keys.close()
        await self._tokens.close()

    async def of_request(self, headers: Headers) -> Principal:
        """Return who sent a request.

        Raises:
            Unauthenticated: nobody knows, for whatever reason: the reason is only logged.
            IssuerUnavailable: a JWT cannot be checked.
            DatabaseUnavailable: the key cannot be looked up.
        """
        if not self.is_on:
            return ANYBODY
        return await self._of_credential(find_credential(headers))

    async def of_websocket(self, websocket: WebSocket, token: str = "") -> Principal:
        """Return who opens a WebSocket; ``token`` is in its query, where a dialect has it there.

        A query may end up in a log or a history. A token does no harm there, as it is used up. A
        key would, so it is not taken.

        Raises:
            Unauthenticated, IssuerUnavailable, DatabaseUnavailable: as ``of_request``.
        """
        if not self.is_on:
            return ANYBODY
        offered = websocket.scope.get("subprotocols") or ()
        credential = find_credential(websocket.headers, offered)
        if token and not credential and token.startswith(socket_tokens.PREFIX):
            credential = token
        if not credential.startswith(socket_tokens.PREFIX):
            return await self._of_credential(credential)
        grant = await self._tokens.use_up(credential)
        if grant is None:
            raise _refused("its token is unknown, used up or too old")
        if grant.key_digest is None:
            return Principal(grant.tenant, grant.scopes, None)
        return await self._of_key(grant.key_digest, "the key that asked for its token was revoked")

    async def issue_token(self, principal: Principal, headers: Headers) -> str:
        """Return a token that opens one WebSocket for the sender of a request with these headers.

        Raises:
            BrokerUnavailable: Redis does not keep it.
        """
        digest = None if principal.key_id is None else digest_of(find_credential(headers))
        return await self._tokens.issue(
            socket_tokens.Grant(principal.tenant, principal.scopes, digest)
        )

    async def _of_credential(self, credential: str) -> Principal:
        reason = _reason(credential)
        if self._issuer.is_known and looks_like_jwt(credential):
            try:
                return await self._issuer.principal(credential)
            except Unauthenticated as error:
                reason = str(error)
        return await self._of_key(digest_of(credential), reason)

    async def _of_key(self, digest: bytes, reason: str) -> Principal:
        """Return whose key has this SHA-256; ``reason``: what to log if nobody's has."""
        key = await self._keys.find(digest)
        if key is None:
            raise _refused(reason)
        return Principal(key.tenant, key.scopes, key.id)


def check_scope(principal: Principal, scope: Scope) -> None:
    """Check that the principal may do what needs this scope.

    Raises:
        ScopeMissing: it may not.
    """
    if scope not in principal.scopes:
        raise ScopeMissing(f"this needs the scope {scope}, which the key does not have", scope)


def _refused(reason: str) -> Unauthenticated:
    """Return the one answer to all that is wrong with credentials; the log has the reason."""
    log.info("a request without a valid credential: %s", reason)
    return Unauthenticated(_REFUSAL)


def _reason(credential: str) -> str:
    """Return why a credential is not valid, as far as that is known, without any of it."""
    if not credential:
        return "there is none"
    try:
        check_key(credential)
    except InvalidRequest as error:
        return str(error)
    return "it is unknown, expired or revoked"
