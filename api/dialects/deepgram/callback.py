"""Deepgram's ``callback`` as a webhook of the job."""

from base64 import b64encode
from uuid import UUID

import httpx

from api.dialects.deepgram.query import Callback
from shared.infra.errors import ForbiddenUrl, InvalidParameter
from shared.infra.outbound import Outbound
from shared.speech.dialects.deepgram import Wish
from shared.store.webhooks.endpoints import JobWebhook
from shared.store.webhooks.faces import DeepgramFace


def webhook_of(
    callback: Callback, wish: Wish, outbound: Outbound, key_id: UUID | None
) -> JobWebhook:
    """Return the webhook; a login in the URL becomes its secret, and is no part of its URL.

    Args:
        callback: what the request says.
        wish: how the answer is to look.
        outbound: which URLs may be named.
        key_id: of the API key that the request came with.

    Raises:
        InvalidParameter: nothing is sent to the URL.
    """
    url, secret = callback.url, ""
    try:
        parsed = httpx.URL(callback.url)
    except httpx.InvalidURL:
        pass  # as check_url says
    else:
        if parsed.userinfo:
            url = str(parsed.copy_with(userinfo=b""))
            login = f"{parsed.username}:{parsed.password}".encode()
            secret = f"Basic {b64encode(login).decode()}"
    try:
        outbound.check_url(url)
    except ForbiddenUrl as error:
        raise InvalidParameter(f"callback: {error}", "callback") from error
    return JobWebhook(url, secret, DeepgramFace(wish=wish, method=callback.method, key_id=key_id))
