"""The page's cookies: which scripts cannot read, and which come with our own pages alone."""

from typing import Literal, TypedDict
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

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
    """Return a cookie of a request; "" if there is none.

    Cookies know no ports, so those of whatever else runs on the machine come along. The standard
    library drops all cookies after one that is not as it likes; this parser, like browsers, none.
    """
    return cookie_parser("; ".join(headers.getlist("cookie"))).get(name, "")
