"""The page's cookies: which scripts cannot read, and which come with our own pages alone."""

from http.cookies import CookieError, SimpleCookie
from typing import Literal, TypedDict
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers

from shared.infra.settings import Settings


class CookieOptions(TypedDict):
    """How a cookie is set, and deleted."""

    httponly: bool
    samesite: Literal["strict"]
    secure: bool


def cookie_options(request: Request, settings: Settings) -> CookieOptions:
    """Return how to set a cookie; over TLS, also where a proxy ends that, it is for TLS alone."""
    schemes = {request.url.scheme, urlsplit(settings.public_url).scheme}
    return {"httponly": True, "samesite": "strict", "secure": "https" in schemes}


def cookie_in(headers: Headers, name: str) -> str:
    """Return a cookie of a request; "" if there is none."""
    try:
        cookies = SimpleCookie("; ".join(headers.getlist("cookie")))
    except CookieError:
        return ""
    found = cookies.get(name)
    return found.value if found else ""
