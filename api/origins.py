"""From which pages a browser may use this API, and under which host names.

A browser sends requests to any address for any page, and says in Origin which page it was. A page
can also have its own host name resolve to this API's address (DNS rebinding): then the browser
takes both for one origin, and only the Host header tells. Clients that are no browsers are not
affected: they send the Host that they were told, and no Origin.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from shared.infra.errors import ForbiddenOrigin, UnknownHost
from shared.infra.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing, and a page of another origin cannot read their answers."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+?)\.?(:[0-9]{1,5})?")

_LONGEST_TOLD = 100


@dataclass(frozen=True, slots=True)
class AllowedOrigins:
    """The host names and origins that the settings allow."""

    hosts: frozenset[str]
    """Names in lower case; ``*.`` before one stands for all names below it, ``*`` for all."""
    metrics_hosts: frozenset[str]
    """Those by which ``/metrics`` alone may be asked, beside IP addresses."""
    origins: frozenset[str]
    """Such as ``https://app.example.com``, in lower case."""

    @classmethod
    def of(cls, settings: Settings) -> "AllowedOrigins":
        """Return what the settings allow."""
        hosts, origins = settings.allowed_host_set, settings.allowed_origin_set
        if settings.public_url:
            public = urlsplit(settings.public_url.lower())
            hosts |= {public.hostname or ""}
            origins |= {f"{public.scheme}://{public.netloc}"}
        return cls(hosts, settings.metrics_host_set, origins)

    def check(self, scope: Scope) -> None:
        """See that a request, or a socket's handshake, may come under its Host and Origin.

        Raises:
            UnknownHost: the Host is none of ours.
            ForbiddenOrigin: a page of another origin wants to change something.
        """
        headers = Headers(scope=scope)
        self._check_host(scope, headers.getlist("host"))
        if scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS:
            self._check_origin(headers)

    def _check_host(self, scope: Scope, given: list[str]) -> None:
        path = scope["path"]
        if not is_host_checked(path):
            return
        parsed = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        if parsed is None:
            raise UnknownHost("the request has no Host header, or a malformed one")
        host = parsed[1].strip("[]")
        if _is_among(host, self.hosts) or _is_own(host, scope):
            return
        if path == "/metrics" and (_address(host) or _is_among(host, self.metrics_hosts)):
            return
        raise UnknownHost(
            f"this API is not known as {host[:_LONGEST_TOLD]!r}: name it in LONGHAND_ALLOWED_HOSTS"
        )

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin")
        if origin is None:
            # Browsers send Origin with all requests that change something. Where one leaves it
            # out, this header tells; ``none`` is the user's own doing.
            if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
                return
            raise ForbiddenOrigin("pages of other sites may not do this")
        if origin.lower() in self.origins:
            return
        # The scheme is left out: it is another one behind a proxy that ends TLS.
        _, separator, host = origin.lower().partition("://")
        if separator and host == headers.get("host", "").lower():
            return
        raise ForbiddenOrigin(
            f"pages of {origin[:_LONGEST_TOLD]!r} may not do this: "
            "name the origin in LONGHAND_ALLOWED_ORIGINS"
        )


def is_host_checked(path: str) -> bool:
    """Whether requests to a path may come under known names alone.

    Probes come by the address of a pod or a node.
    """
    return path not in ("/health", "/ready") and not path.startswith("/health/")


def _is_among(host: str, names: frozenset[str]) -> bool:
    if host in names or "*" in names:
        return True
    return any(name.startswith("*.") and host.endswith(name[1:]) for name in names)


def _is_own(host: str, scope: Scope) -> bool:
    """Whether a host is this machine itself, or the very address that the connection came to.

    An address cannot be rebound, as no name stands for it.
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and (
        address.is_loopback or address == _address((scope.get("server") or ("",))[0])
    )


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    # A socket for both families tells IPv4 addresses in this form.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
