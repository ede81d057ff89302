"""Runs flows in the calling thread."""

import time
from collections.abc import Callable, Iterator
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
    texts: Iterator[str]


class Runner:
    """Does what flows ask for; several threads may use it."""

    def __init__(self, http: httpx.Client, sleep: Callable[[float], object] = time.sleep) -> None:
        self._http = http
        self._sleep = sleep

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end, and return what it returns."""
        act: Callable[[], Step] = lambda: next(flow)  # noqa: E731 - replaced below
        try:
            while True:
                try:
                    step = act()
                except StopIteration as end:
                    result: T = end.value
                    return result
                act = self._outcome(flow, step)
        finally:
            flow.close()  # its files, whatever has ended it

    def iterate(self, flow: Flow[None]) -> Iterator[Any]:
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
                act = self._outcome(flow, step, opened)
        finally:
            flow.close()
            for stream in opened:
                stream.response.close()

    def _outcome(
        self, flow: Flow[T], step: Step, opened: list[_Stream] | None = None
    ) -> Callable[[], Step]:
        """Do a step; return what tells the flow how it went, and asks for the next one."""
        try:
            result = self._do(step, opened)
        except httpx.HTTPError as error:
            lost = error
            return lambda: flow.throw(lost)
        return lambda: flow.send(result)

    def _do(self, step: Step, opened: list[_Stream] | None) -> Any:
        match step:
            case Call():
                content = None if step.body is None else _pieces(step.body)
                return self._http.send(build(self._http, step, content))
            case Open(call):
                response = self._http.send(build(self._http, call, None), stream=True)
                stream = _Stream(response, response.iter_text())
                if opened is not None:
                    while opened:  # one at a time: the flow has done with those before
                        opened.pop().response.close()
                    opened.append(stream)
                if response.status_code != httpx.codes.OK:
                    response.read()
                return stream
            case Read(stream) if isinstance(stream, _Stream):
                return next(stream.texts, None)
            case Pause(seconds):
                self._sleep(seconds)
            case Tell(function) | Block(function):
                return function()
        return None


def _pieces(body: Body) -> Iterator[bytes]:
    sent_bytes = 0
    for piece in body.pieces():
        yield piece
        sent_bytes += len(piece)
        body.report(sent_bytes)
