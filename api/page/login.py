"""``/session``: how a person logs in to the page with an API key, and out again."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access.cookies import cookie_options
from api.access.page_sessions import COOKIE, csrf_token, session_in
from api.access.principal import ANYBODY, Principal
from api.access.routes import public
from api.resources import Provided
from shared.infra.errors import Unauthenticated

router = APIRouter(include_in_schema=False)


class NewSession(BaseModel):
    """A login."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=200)


class Session(BaseModel):
    """Whether somebody is logged in."""

    auth: Literal["on", "off"]
    tenant: str | None = Field(description="null: nobody is logged in")
    scopes: list[str]
    csrf_token: str | None = Field(description="for the X-CSRF-Token of requests")

    @classmethod
    def of(cls, principal: Principal, session: str | None) -> "Session":
        """Return a session's wire form; None: authentication is off."""
        return cls(
            auth="off" if session is None else "on",
            tenant=principal.tenant,
            scopes=sorted(principal.scopes),
            csrf_token=None if session is None else csrf_token(session),
        )


NOBODY = Session(auth="on", tenant=None, scopes=[], csrf_token=None)


@public
@router.get("/session")
async def show_session(request: Request, resources: Provided) -> Session:
    """Return whether the page is logged in, and what it may do."""
    if not resources.authenticator.is_on:
        return Session.of(ANYBODY, None)
    session = session_in(request.headers)
    if not session:
        return NOBODY
    try:
        return Session.of(await resources.authenticator.of_session(session), session)
    except Unauthenticated:
        return NOBODY


@public
@router.post("/session")
async def log_in(
    new: NewSession, request: Request, response: Response, resources: Provided
) -> Session:
    """Open a session for a key, in a cookie that scripts cannot read."""
    if not resources.authenticator.is_on:
        return Session.of(ANYBODY, None)
    session, principal = await resources.authenticator.open_session(new.key.strip())
    response.set_cookie(COOKIE, session, **cookie_options(request, resources.settings))
    return Session.of(principal, session)


@public
@router.delete("/session", status_code=204)
async def log_out(request: Request, resources: Provided) -> Response:
    """End the session."""
    if session := session_in(request.headers):
        await resources.authenticator.end_session(session)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, **cookie_options(request, resources.settings))
    return response
