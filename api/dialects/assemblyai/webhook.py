"""AssemblyAI's ``webhook_url`` as a webhook of the job."""

import re

from shared.infra.errors import ForbiddenUrl, InvalidParameter
from shared.infra.outbound import Outbound
from shared.store.webhooks.endpoints import JobWebhook
from shared.store.webhooks.faces import AssemblyAIFace

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
"""RFC 9110's token."""
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?")
_HTTP_S_OWN = frozenset(
    {
        *("connection", "content-encoding", "content-length", "content-type", "expect", "host"),
        *("keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent"),
    }
)
"""Headers that say how a request is to be read, or who sends it."""


def webhook_of(
    url: str | None, name: str | None, value: str | None, outbound: Outbound
) -> JobWebhook | None:
    """Return the webhook of a URL and of a header's name and value; None: there is none.

    Raises:
        InvalidParameter: one of the three is missing, or nothing can be sent there so.
    """
    if (name is None) != (value is None):
        raise InvalidParameter(
            "webhook_auth_header_name and webhook_auth_header_value are given together or not at "
            "all",
            "webhook_auth_header_name" if name is None else "webhook_auth_header_value",
        )
    if url is None:
        if name is not None:
            raise InvalidParameter(
                "webhook_auth_header_name: there is no webhook_url", "webhook_auth_header_name"
            )
        return None
    if name is not None and (not _NAME.fullmatch(name) or name.lower() in _HTTP_S_OWN):
        raise InvalidParameter(
            "webhook_auth_header_name: it is no name of a header for this",
            "webhook_auth_header_name",
        )
    if value is not None and not _VALUE.fullmatch(value):
        raise InvalidParameter(
            "webhook_auth_header_value: it has up to 1,024 printable characters of ASCII, and no "
            "space at either end",
            "webhook_auth_header_value",
        )
    try:
        outbound.check_url(url)
    except ForbiddenUrl as error:
        raise InvalidParameter(f"webhook_url: {error}", "webhook_url") from error
    return JobWebhook(url, value or "", AssemblyAIFace(secret_header=name))
