"""Requests and connections whose answer may take long: the tests share the machine.

A server in a process of its own may give up Postgres, which stands still, and say so. It is asked
again.
"""

import time
from functools import partial
from typing import Any

import httpx
from websockets.sync import client

_PATIENCE_S = 60.0


def _ask(method: str, url: str, **options: Any) -> httpx.Response:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        answer = httpx.request(method, url, timeout=_PATIENCE_S, **options)
        passes = answer.status_code == 503 and '"database_unavailable"' in answer.text
        if not passes or time.monotonic() > deadline:
            return answer
        time.sleep(0.2)


get = partial(_ask, "GET")
post = partial(_ask, "POST")
connect = partial(client.connect, open_timeout=_PATIENCE_S)
