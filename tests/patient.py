"""Requests and connections whose answer may take long: the tests share the machine."""

from functools import partial

import httpx
from websockets.sync import client

get = partial(httpx.get, timeout=60)
post = partial(httpx.post, timeout=60)
connect = partial(client.connect, open_timeout=60)
