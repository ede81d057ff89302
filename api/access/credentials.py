"""Where a request carries its credential. It is never looked for in a query string, which ends up
in logs, histories and Referer headers."""

from collections.abc import Sequence

from starlette.datastructures import Headers

SUBPROTOCOLS = ("longhand", "bearer", "token")
"""Of a WebSocket: the one that the server speaks comes first, the credential second. Browsers
cannot set headers of a WebSocket."""

_SCHEMES = ("bearer", "token")


def find_credential(headers: Headers, subprotocols: Sequence[str] = ()) -> str:
    """Return the credential of a request or a WebSocket handshake; "" if there is none.

    Two that differ are none: neither their sender nor a proxy can know which one counts.
    """
    found = set(map(_in_authorization, headers.getlist("authorization")))
    found |= {value.strip() for value in headers.getlist("x-api-key")}
    found.discard("")
    if chosen_subprotocol(subprotocols) and len(subprotocols) > 1:
        found.add(subprotocols[1])
    return found.pop() if len(found) == 1 else ""


def has_credential(headers: Headers) -> bool:
    """Whether a request names a credential in a header, valid or not."""
    return "authorization" in headers or "x-api-key" in headers


def chosen_subprotocol(subprotocols: Sequence[str]) -> str | None:
    """Return the subprotocol to accept: a browser ends a connection whose offer was ignored."""
    return subprotocols[0] if subprotocols and subprotocols[0] in SUBPROTOCOLS else None


def _in_authorization(value: str) -> str:
    """Return what follows ``Bearer`` or ``Token``, or the only word of the header; else ""."""
    words = value.split()
    if len(words) == 2 and words[0].lower() in _SCHEMES:
        return words[1]
    return words[0] if len(words) == 1 else ""
