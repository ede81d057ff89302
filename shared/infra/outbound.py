"""Requests to URLs that clients name.

Such a URL may lead to what its owner cannot reach: the database, the cloud's metadata, a neighbour
(server-side request forgery). So every address of a host must be public, and the address that was
checked is the one that is dialled, as a second look-up could give another answer (DNS rebinding).
TLS still verifies the host's name. Redirects are not followed here, and proxies of the environment
are not used. Of the answer to a ``send`` little is read.
"""

import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import Any, Literal

import httpcore
import httpx

from shared.infra.addresses import Address, Network, is_host_name, is_public, parse_address
from shared.infra.errors import AddressForbidden, ForbiddenUrl, OutboundFailed
from shared.infra.quantities import duration
from shared.infra.settings import Settings

Resolver = Callable[[str], Sequence[str]]
"""Returns the addresses of a host; raises OSError or UnicodeError if it has none."""

MAX_URL_CHARS = 2048
URL_PATTERN = "^https?://"
"""Regular expression of URLs, for the OpenAPI document."""

_HOW_TO_ALLOW = "(an operator can allow it: LONGHAND_OUTBOUND_ALLOW)"

_CONNECT_S = 5.0
"""Longest wait for one address, so that the host's next one gets a chance."""

_DRAIN_BYTES = 4096
"""The most of a body that is read, so that the connection of a short answer ends in order."""


def resolve(host: str) -> list[str]:
    """Return the addresses of a host by the system's resolver."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


def without_secrets(url: str) -> str:
    """Return a URL to be shown: without its query and fragment, which may hold a token, and user.

    Raises:
        httpx.InvalidURL: it is none.
    """
    return str(httpx.URL(url).copy_with(query=None, fragment=None, userinfo=b""))


@dataclass(frozen=True, slots=True)
class Answer:
    """A receiver's answer without its body; not to be shown to clients."""

    status_code: int
    headers: Mapping[str, str]
    """Names in lower case; the last of equal ones."""


class Download:
    """A server's answer whose body is still to come."""

    def __init__(self, response: httpcore.Response) -> None:
        self.status_code: int = response.status
        self.headers = _headers(response)
        """Names in lower case; the last of equal ones."""
        self._response = response

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes; to be called within the block of ``Outbound.get``."""
        yield from self._response.iter_stream()


class Outbound:
    """Makes requests to URLs that clients name. Safe to use from several threads."""

    def __init__(
        self,
        *,
        allow_http: bool = False,
        allow: Iterable[str] = (),
        resolver: Resolver = resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Set the limits.

        Host names and networks (CIDR) in ``allow`` may be reached though they are not public.
        ``ssl_context`` verifies receivers, by default against the usual authorities.
        """
        self._schemes = ("https", "http") if allow_http else ("https",)
        self._hosts: set[str] = set()
        self._networks: list[Network] = []
        for item in allow:
            try:
                self._networks.append(ip_network(item))
            except ValueError:
                self._hosts.add(item.lower())
        self._resolver = resolver
        self._given_context = ssl_context

    @classmethod
    def of(cls, settings: Settings) -> "Outbound":
        """Return one with the limits of the settings."""
        allow = (item.strip() for item in settings.outbound_allow.split(","))
        return cls(allow_http=settings.outbound_http, allow=filter(None, allow))

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        # Made on first use, as it reads all authorities' certificates.
        return self._given_context or httpx.create_ssl_context()

    def check_url(self, url: str) -> httpx.URL:
        """Check and return a URL without looking up its host, as a request does.

        Raises:
            ForbiddenUrl: no request may be sent there.
        """
        if len(url) > MAX_URL_CHARS:
            raise ForbiddenUrl(f"the URL is longer than {MAX_URL_CHARS:,} characters")
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ForbiddenUrl("this is not a URL") from error
        if parsed.scheme not in self._schemes:
            allowed = " or ".join(f"{scheme}://" for scheme in self._schemes)
            how = " (an operator can allow http://: LONGHAND_OUTBOUND_HTTP)"
            raise ForbiddenUrl(
                f"the URL must begin with {allowed}{how if parsed.scheme == 'http' else ''}"
            )
        host = parsed.raw_host.decode()
        if not host:
            raise ForbiddenUrl("the URL names no host")
        if parsed.port is not None and not 0 < parsed.port < 65_536:
            raise ForbiddenUrl("the URL names a port that does not exist")
        if parsed.userinfo:
            raise ForbiddenUrl("the URL carries a user name or a password")
        address = parse_address(host)
        if address is None and not is_host_name(host):
            raise ForbiddenUrl("the URL's host is neither a name nor an address")
        if address is not None and not self._may_reach(host, address):
            raise ForbiddenUrl(f"the URL names an address that is not public {_HOW_TO_ALLOW}")
        return parsed

    def send(
        self,
        method: Literal["POST", "PUT"],
        url: str,
        *,
        body: bytes | Iterable[bytes],
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> Answer:
        """Send ``body`` once and return the answer, whatever its status.

        ``headers`` are sent beside Host; they have the Content-Length of a body in pieces.
        ``timeout_s`` is for look-up, connection, TLS, request and answer together.

        Raises:
            ForbiddenUrl: as ``check_url``.
            AddressForbidden: an address of the host is not public, or it has none.
            OutboundFailed: there was no answer.
        """
        content = body if isinstance(body, bytes) else iter(body)
        with self._request(method, url, headers, content, _Deadline(timeout_s)) as response:
            _drain(response)
            return Answer(response.status, _headers(response))

    @contextmanager
    def get(
        self, url: str, *, headers: Mapping[str, str], timeout_s: float, idle_s: float
    ) -> Iterator[Download]:
        """Ask for a URL once, and give the block the answer, whatever its status.

        ``timeout_s`` is for all that the block does, ``idle_s`` for each wait for the server.

        Raises:
            ForbiddenUrl: as ``check_url``.
            AddressForbidden: an address of the host is not public, or it has none.
            OutboundFailed: there was no answer, or it broke off.
        """
        deadline = _Deadline(timeout_s, idle_s)
        with self._request("GET", url, headers, None, deadline) as response:
            yield Download(response)

    @contextmanager
    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterator[bytes] | None,
        deadline: "_Deadline",
    ) -> Iterator[httpcore.Response]:
        parsed = self.check_url(url)
        target = httpcore.URL(
            scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path
        )
        sent = [("Host", parsed.netloc.decode()), *headers.items()]
        wall = _Wall(self, deadline)
        is_answered = False
        try:
            with (
                httpcore.ConnectionPool(
                    ssl_context=self._ssl_context, network_backend=wall, max_connections=1
                ) as connections,
                connections.stream(method, target, headers=sent, content=body) as response,
            ):
                is_answered = True
                yield response
        except httpcore.ConnectTimeout as error:
            raise OutboundFailed("the connection took too long") from error
        except httpcore.TimeoutException as error:
            if is_answered:
                raise OutboundFailed(f"nothing was received {deadline.span()}") from error
            raise OutboundFailed(f"there was no answer {deadline.span()}") from error
        except httpcore.ConnectError as error:
            raise OutboundFailed(_why_not_connected(error)) from error
        except httpcore.NetworkError as error:
            when = "the answer was whole" if is_answered else "there was an answer"
            raise OutboundFailed(f"the connection broke before {when}") from error
        except httpcore.ProtocolError as error:
            what = "the answer broke off" if is_answered else "there was no valid HTTP answer"
            raise OutboundFailed(what) from error

    def addresses(self, host: str, limit_s: float) -> list[Address]:
        """Return the addresses of a host, all of which may be reached.

        Raises:
            AddressForbidden: it has none, or one that is not public.
            httpcore.ConnectTimeout: the look-up took too long.
        """
        literal = parse_address(host)
        if literal is not None:
            found = [literal]
        else:
            try:
                found = [ip_address(each) for each in self._look_up(host, limit_s)]
            except (OSError, ValueError):  # UnicodeError is a ValueError
                found = []
        # One message for both, as a client must not learn what an inner name server knows.
        if not found or not all(self._may_reach(host, address) for address in found):
            raise AddressForbidden(f"the URL's host has no public address {_HOW_TO_ALLOW}")
        return found

    def _may_reach(self, host: str, address: Address) -> bool:
        return (
            is_public(address)
            or host.lower() in self._hosts
            or any(address in network for network in self._networks)
        )

    def _look_up(self, host: str, limit_s: float) -> Sequence[str]:
        """Ask the resolver, which has no time limit, in a thread that may be left behind."""
        answer: Future[Sequence[str]] = Future()

        def ask() -> None:
            try:
                answer.set_result(self._resolver(host))
            except (OSError, UnicodeError) as error:
                answer.set_exception(error)

        threading.Thread(target=ask, name="look-up", daemon=True).start()
        try:
            return answer.result(limit_s)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("the look-up took too long") from error


class _Deadline:
    """The end of a time limit; no single wait lasts longer than ``idle_s``."""

    def __init__(self, limit_s: float, idle_s: float = math.inf) -> None:
        self._limit_s, self._idle_s = limit_s, idle_s
        self._at = time.monotonic() + limit_s

    def left_s(self, timeout: type[httpcore.TimeoutException]) -> float:
        """Return the seconds left; raises ``timeout`` when there are none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise timeout("the whole request took too long")
        return min(left, self._idle_s)

    def span(self) -> str:
        """Return within which of the two times nothing has come, for people."""
        return f"within {duration(min(self._limit_s, self._idle_s))}"


class _Wall(httpcore.NetworkBackend):
    """Dials only checked addresses. httpcore gives the host's name to TLS, which verifies it."""

    def __init__(self, outbound: Outbound, deadline: _Deadline) -> None:
        self._outbound = outbound
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline bounds all
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of the host that answers."""
        failure: Exception | None = None
        for address in self._outbound.addresses(host, self._left_s()):
            try:
                stream = self._sockets.connect_tcp(
                    str(address), port, min(_CONNECT_S, self._left_s()), None, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream, self._deadline)
        assert failure is not None, "a host has at least one address"
        raise failure

    def _left_s(self) -> float:
        return self._deadline.left_s(httpcore.ConnectTimeout)


class _Stream(httpcore.NetworkStream):
    """A connection on which no operation outlasts the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, self._deadline.left_s(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, self._deadline.left_s(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        left_s = self._deadline.left_s(httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left_s), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
    }


def _drain(response: httpcore.Response) -> None:
    """Read a short body to its end; of a long or broken one only the status counts."""
    n_bytes = 0
    try:
        for data in response.iter_stream():
            n_bytes += len(data)
            if n_bytes > _DRAIN_BYTES:
                return
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        return


def _why_not_connected(error: httpcore.ConnectError) -> str:
    # httpcore's error has the original as its argument, not as its cause.
    match error.args[0]:
        case ssl.SSLCertVerificationError():
            return "the receiver's certificate could not be verified"
        case ssl.SSLError():
            return "there was no TLS connection"
        case ConnectionRefusedError():
            return "the connection was refused"
        case _:
            return "there was no connection"
