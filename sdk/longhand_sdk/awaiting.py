"""Runs flows in asyncio's event loop. Files are read in threads."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from longhand_sdk.flows import (
    Block,
    Body,
    Call,
    Emit,
    Flow,
    Open,
    Pause,
    Read,
    Step,
    T,
    Tell,
    build,
)


@dataclass(eq=False)
class _Stream:
    response: httpx.Response
    texts: AsyncIterator[str]


class Runner:
    """Does what flows ask for; several tasks may use it."""

    def __init__(
        self, http: httpx.AsyncClient, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self._http = http
        self._sleep = sleep

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end, and return what it returns."""
        act: Callable[[], Step] = lambda: next(flow)  # noqa: E731 - replaced below
        try:
            while True:
                try:
                    step = act()
                except StopIteration as end:
                    result: T = end.value
                    return result
                act = await self._outcome(flow, step)
        finally:
            flow.close()  # its files, whatever has ended it

    async def iterate(self, flow: Flow[None]) -> AsyncIterator[Any]:
        """Run a flow, and yield the items that it emits."""
        opened: list[_Stream] = []
        act: Callable[[], Step] = lambda: next(flow)  # noqa: E731
        try:
            while True:
                try:
                    step = act()
                except StopIteration:
                    return
                if isinstance(step, Emit):
                    yield step.item
                act = await self._outcome(flow, step, opened)
        finally:
            flow.close()
            for stream in opened:
                await stream.response.aclose()

    async def _outcome(
        self, flow: Flow[T], step: Step, opened: list[_Stream] | None = None
    ) -> Callable[[], Step]:
        """Do a step; return what tells the flow how it went, and asks for the next one."""
        try:
            result = await self._do(step, opened)
        except httpx.HTTPError as error:
            lost = error
            return lambda: flow.throw(lost)
        return lambda: flow.send(result)

    async def _do(self, step: Step, opened: list[_Stream] | None) -> Any:
        match step:
            case Call():
                content = None if step.body is None else _pieces(step.body)
                return await self._http.send(build(self._http, step, content))
            case Open(call):
                response = await self._http.send(build(self._http, call, None), stream=True)
                stream = _Stream(response, response.aiter_text())
                if opened is not None:
                    while opened:  # one at a time: the flow has done with those before
                        await opened.pop().response.aclose()
                    opened.append(stream)
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                return stream
            case Read(stream) if isinstance(stream, _Stream):
                return await anext(stream.texts, None)
            case Pause(seconds):
                await self._sleep(seconds)
            case Tell(function):
                function()
            case Block(function):
                return await asyncio.to_thread(function)
        return None


async def _pieces(body: Body) -> AsyncIterator[bytes]:
    pieces, sent_bytes = body.pieces(), 0
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
        sent_bytes += len(piece)
        body.report(sent_bytes)
