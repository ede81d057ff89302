"""Both clients of the SDK behind one interface, so that each test is written once."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from longhand_sdk import AsyncJob, AsyncLonghand, Longhand
from longhand_sdk.async_client import AsyncJobs, AsyncWebhooks

OBJECTS = (AsyncLonghand, AsyncJob, AsyncJobs, AsyncWebhooks)


class Awaited:
    """An object of the asynchronous client, used as its counterpart without ``await``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Any) -> None:
        self._loop, self._target = loop, target

    def __getattr__(self, name: str) -> Any:
        return self._plain(getattr(self._target, name))

    def close(self) -> None:
        self._loop.run_until_complete(self._target.aclose())

    def _plain(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            return self._plain(self._loop.run_until_complete(value))
        if inspect.isasyncgen(value):
            return self._iterate(value)
        if isinstance(value, OBJECTS):
            return Awaited(self._loop, value)
        if inspect.isroutine(value):
            return lambda *words, **options: self._plain(value(*words, **options))
        return value

    def _iterate(self, items: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._plain(self._loop.run_until_complete(anext(items)))
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run_until_complete(items.aclose())


Connect = Callable[..., Any]
"""Makes a client; arguments as of ``Longhand``, but ``sleep`` is a plain function."""


@dataclass(frozen=True, slots=True)
class Platform:
    """An API with workers that read tones."""

    url: str
    native: httpx.Client


class Clients:
    """Makes clients of one kind, and closes them."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._loop = asyncio.new_event_loop()
        self._made: list[Any] = []

    def connect(self, url: str, **options: Any) -> Any:
        """Return a client; arguments as of ``Longhand``, but ``sleep`` is a plain function."""
        client: Any
        if self._kind == "blocking":
            client = Longhand(url, **options)
        else:
            if (sleep := options.get("sleep")) is not None:

                async def asleep(seconds: float) -> None:
                    sleep(seconds)

                options["sleep"] = asleep
            client = Awaited(self._loop, AsyncLonghand(url, **options))
        self._made.append(client)
        return client

    def close(self) -> None:
        for client in self._made:
            client.close()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
