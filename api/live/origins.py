"""Which web pages may open a session: browsers tell where a page comes from, and send cookies."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers


def is_allowed(headers: Headers, allowed: frozenset[str]) -> bool:
    """Whether the handshake comes from no page, from one of this host, or from an allowed origin.

    Args:
        headers: of the handshake.
        allowed: origins such as ``https://app.example.com``; ``*``: all of them.
    """
    origin = headers.get("origin")
    if origin is None or "*" in allowed or origin.lower() in allowed:
        return True
    # The scheme is left out: it is another one behind a proxy that ends TLS.
    return urlsplit(origin.lower()).netloc == headers.get("host", "").lower() != ""
