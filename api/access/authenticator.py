"""From a credential to a principal."""

import logging

from sqlalchemy import Engine
from starlette.datastructures import Headers
from starlette.websockets import WebSocket

from api.access import page_sessions, share_links, socket_tokens
from api.access.credentials import find_credential, has_credential
from api.access.jwt import Issuer, looks_like_jwt
from api.access.keys import Keys
from api.access.principal import ANYBODY, Principal
from api.origins import SAFE_METHODS
from shared.infra.api_keys import check_key, digest_of
from shared.infra.errors import (
    CsrfTokenWrong,
    InvalidRequest,
    ScopeMissing,
    ShareLinkNotFound,
    Unauthenticated,
)
from shared.infra.settings import Settings
from shared.store.accounts.scopes import Scope
from shared.store.share_links import Shared

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
        self._sessions = page_sessions.PageSessions(settings)
        self._share_links = share_links.ShareLinks(engine)

    async def close(self) -> None:
        """Look nothing up any more."""
        self._keys.close()
        self._share_links.close()
        await self._tokens.close()
        await self._sessions.close()

    async def of_request(self, method: str, headers: Headers) -> Principal:
        """Return who sent a request. The page's cookie counts where no header has a credential.

        Raises:
            Unauthenticated: nobody knows, for whatever reason: the reason is only logged.
            CsrfTokenWrong: a request that changes something has the cookie, but not its token.
            IssuerUnavailable: a JWT cannot be checked.
            DatabaseUnavailable: the key cannot be looked up.
            BrokerUnavailable: the page's session cannot be looked up.
        """
        if not self.is_on:
            return ANYBODY
        session = page_sessions.session_in(headers)
        if has_credential(headers) or not session:
            return await self._of_credential(find_credential(headers))
        if method not in SAFE_METHODS and not page_sessions.is_csrf_token(
            headers.get(page_sessions.CSRF_HEADER, ""), session
        ):
            raise CsrfTokenWrong(f"send the session's token as {page_sessions.CSRF_HEADER}")
        return await self.of_session(session)

    async def of_session(self, session: str) -> Principal:
        """Return whose session of the page this is.

        Raises:
            Unauthenticated: it has ended, or its key is valid no more.
            DatabaseUnavailable, BrokerUnavailable: it cannot be looked up.
        """
        digest = await self._sessions.key_digest(session)
        if digest is None:
            raise _refused("its session of the page has ended")
        return await self._of_key(digest, "the key of its session of the page was revoked")

    async def open_session(self, credential: str) -> tuple[str, Principal]:
        """Return a new session of the page for an API key, and whose it is.

        Raises:
            Unauthenticated: it is no valid API key.
            DatabaseUnavailable: the key cannot be looked up.
            BrokerUnavailable: Redis does not keep the session.
        """
        digest = digest_of(credential)
        principal = await self._of_key(digest, _reason(credential))
        return await self._sessions.open(digest), principal

    async def end_session(self, session: str) -> None:
        """End a session of the page, if there is one.

        Raises:
            BrokerUnavailable: Redis cannot be reached.
        """
        await self._sessions.end(session)

    async def open_share(self, token: str) -> Shared:
        """Return what a share link opens.

        Raises:
            ShareLinkNotFound: it was never made, has expired or was revoked.
            DatabaseUnavailable: it cannot be looked up.
        """
        return await self._share_links.find(token)

    async def of_share(self, headers: Headers, job_id: str) -> Principal | None:
        """Return the owner of a job whose valid share link a request has; it may do nothing else.

        None: it has another credential in a header, or no such link.

        Raises:
            DatabaseUnavailable: the link cannot be looked up.
        """
        token = share_links.share_in(headers)
        if not token or has_credential(headers):
            return None
        try:
            shared = await self._share_links.find(token)
        except ShareLinkNotFound:
            return None
        if str(shared.job_id) != job_id.lower():
            return None
        return Principal(shared.tenant, frozenset(), None)

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

    async def issue_token(self, principal: Principal) -> str:
        """Return a token that opens one WebSocket for the principal.

        Raises:
            BrokerUnavailable: Redis does not keep it.
        """
        return await self._tokens.issue(
            socket_tokens.Grant(principal.tenant, principal.scopes, principal.key_digest)
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
        return Principal(key.tenant, key.scopes, key.id, digest)


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
