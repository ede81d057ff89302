"""Requests whose answer may take long: the tests share the machine."""

from functools import partial

import httpx

get = partial(httpx.get, timeout=60)
post = partial(httpx.post, timeout=60)
