"""The vocabulary of this package's core, which does no input and output.

What the client does is written once, as generators. A flow yields what is to be done: a ``Call``,
a ``Pause``, the next text of a stream, or an item for whoever iterates. ``longhand_sdk.blocking``
does that in the calling thread, ``longhand_sdk.awaiting`` with asyncio. Errors of httpx are thrown
into the flow.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import httpx

T = TypeVar("T")


class Body(Protocol):
    """What a request sends, of a known length; it can be sent again."""

    content_type: str

    @property
    def size_bytes(self) -> int:
        """Its length."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Begin anew, and yield it; it may read a file."""
        ...

    def report(self, sent_bytes: int) -> None:
        """Take note of how much has been sent this time."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request; the answer is an ``httpx.Response`` with its content."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    body: Body | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: httpx.Timeout | None = None
    """None: the client's."""
    repeatable: bool = True
    """Whether it may be sent again although the server may have done what it asks."""


class Stream(Protocol):
    """An answer whose text comes bit by bit, as the runner of the flow keeps it."""

    response: httpx.Response


@dataclass(frozen=True, slots=True)
class Open:
    """A request whose answer is a ``Stream``. Errors are read whole."""

    call: Call


@dataclass(frozen=True, slots=True)
class Read:
    """The next text of a stream; None at its end."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """An item for whoever iterates over the flow."""

    item: Any


@dataclass(frozen=True, slots=True)
class Tell:
    """A function of the caller's to be called, such as ``on_progress``."""

    function: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Block:
    """A function that may wait for a file; the answer is what it returns."""

    function: Callable[[], Any]


Step = Call | Open | Read | Pause | Emit | Tell | Block
Flow = Generator[Step, Any, T]


def send(call: Call) -> Flow[httpx.Response]:
    """Have a request sent once."""
    return cast("httpx.Response", (yield call))


def any_call(method: str, path: str, params: Mapping[str, Any], json: Any) -> Call:
    """Return a request of any kind, which is repeatable if that is what HTTP says of its method."""
    repeatable = method.upper() in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")
    return Call(method, path, params, json, repeatable=repeatable)


def build(http: httpx.Client | httpx.AsyncClient, call: Call, content: Any) -> httpx.Request:
    """Return a call as httpx's request; ``content`` is its body's pieces."""
    headers = dict(call.headers)
    if call.body is not None:
        headers["Content-Type"] = call.body.content_type
        headers["Content-Length"] = str(call.body.size_bytes)
    return http.build_request(
        call.method,
        call.path,
        params=dict(call.params) or None,
        json=call.json,
        content=content,
        headers=headers,
        timeout=httpx.USE_CLIENT_DEFAULT if call.timeout is None else call.timeout,
    )
