"""``stream=true``: the text while it is transcribed, as Server-Sent Events."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from itertools import chain
from typing import Any

from anyio import to_thread
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from api.dialects.openai.answers import languages_of, logprob_of, logprobs_of
from api.dialects.openai.errors import error_object
from api.dialects.openai.form import Wish
from api.native.call import Answered, Call, transcript_of
from api.native.call_metrics import CallMetrics
from api.native.disconnection import while_connected
from api.native.snapshots import Snapshots
from api.problems import failure_of
from api.resources import Resources
from api.watch import Watch
from shared.infra.errors import JobUnfinished, LonghandError
from shared.speech.chunks.hypothesis import WordHypothesis
from shared.speech.transcript.stitching import RunningText
from shared.speech.transcript.transcript import join_segments
from shared.store.chunks import as_heard, finished_chunks

KEEP_ALIVE_S = 15.0
"""After so long without an event there is a comment, which keeps proxies patient."""

_COMMENT = ":\n\n"
_CHUNKS_AT_ONCE = 20

Words = list[tuple[WordHypothesis, str]]
"""Words, each with the separator before it."""


class TextStream:
    """The events of one call: its text in the order of time, then all of it."""

    def __init__(
        self,
        call: Call,
        resources: Resources,
        loader: Snapshots,
        metrics: CallMetrics,
        wish: Wish,
    ) -> None:
        self._call, self._resources, self._loader = call, resources, loader
        self._metrics, self._wish = metrics, wish
        self._running = RunningText()
        self._next_chunk = 0
        self._told: list[str] = []
        self._n_told = 0
        """Words."""

    async def begin(self, request: Request, stack: AsyncExitStack) -> Response:
        """Return the answer once there is something to tell; it takes over what ``stack`` holds.

        Raises:
            LonghandError: the job ends without a transcript before anything was told.
            ClientDisconnect: the client has left first.
        """
        watching = self._resources.watcher.watch(self._call.job_id, self._call.tenant)
        events = self._events(stack.enter_context(watching))
        first = await while_connected(request, anext(events))
        return _HeldAnswer(first, events, stack.pop_all(), self._metrics)

    async def _events(self, watch: Watch) -> AsyncIterator[str]:
        while True:
            snapshot = await self._loader.get(self._call.key)
            while new := await to_thread.run_sync(self._read_on):
                for words in filter(None, new):
                    yield self._delta(words)
            if snapshot.view.ended:
                break
            while True:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        goes_on = await watch.news(snapshot.view.last_event)
                except TimeoutError:
                    yield _COMMENT
                else:
                    break
            if not goes_on:
                raise JobUnfinished("the server stops; send the file again: its job goes on")
        answered = await transcript_of(
            self._call, snapshot, self._resources, self._metrics, words=self._wish.logprobs
        )
        for event in await to_thread.run_sync(self._finish, answered):
            yield event

    def _read_on(self) -> list[Words]:
        """Return the words that the next chunks settle; empty if the next one is not done yet."""
        after = self._next_chunk + _CHUNKS_AT_ONCE
        found = finished_chunks(
            self._resources.engine,
            self._call.job_id,
            among=f"{{[{self._next_chunk},{after})}}",
            tenant=self._call.tenant,
        )
        settled = []
        for heard in as_heard(found):
            if heard[0].index != self._next_chunk:
                break
            self._next_chunk += 1
            settled.append(self._running.push(heard))
        return settled

    def _delta(self, words: Words) -> str:
        text = "".join(chain.from_iterable((gap, word.text.strip()) for word, gap in words))
        self._told.append(text)
        self._n_told += len(words)
        probabilities = [
            logprob_of(gap + word.text.strip(), word.confidence) for word, gap in words
        ]
        return self._event("transcript.text.delta", delta=text, logprobs=probabilities)

    def _finish(self, answered: Answered) -> list[str]:
        """Return the last delta, and all of the text."""
        transcript, told = answered.transcript, "".join(self._told)
        text = "".join(join_segments(transcript.segments_without_words))
        logprobs = [*logprobs_of(transcript)] if self._wish.logprobs else []
        events = []
        if text.startswith(told) and (rest := text[len(told) :]):
            left = logprobs[self._n_told :]
            events.append(self._event("transcript.text.delta", delta=rest, logprobs=left))
        languages = languages_of(transcript.header)
        events.append(
            self._event("transcript.text.done", text=text, languages=languages, logprobs=logprobs)
        )
        return events

    def _event(self, kind: str, *, logprobs: list[dict[str, Any]], **members: Any) -> str:
        added = {"logprobs": logprobs} if self._wish.logprobs else {}
        return _data({"type": kind, **members, **added})


class _HeldAnswer(StreamingResponse):
    """A stream that holds its call's place, and has its job wanted, until it is over."""

    def __init__(
        self,
        first: str,
        others: AsyncIterator[str],
        held: AsyncExitStack,
        metrics: CallMetrics,
    ) -> None:
        super().__init__(self._whole(first, others), media_type="text/event-stream")
        self._held, self._metrics = held, metrics
        self._is_over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        async with self._held:
            await super().__call__(scope, receive, send)
            if not self._is_over:
                self._metrics.ended("left")

    async def _whole(self, first: str, others: AsyncIterator[str]) -> AsyncIterator[str]:
        """Yield all events; what goes wrong is one of them, as the status is sent already."""
        yield first
        try:
            async for event in others:
                yield event
        except LonghandError as error:
            self._metrics.ended("error")
            yield _data({"error": error_object(failure_of(error))})
        self._is_over = True


def _data(value: Mapping[str, Any]) -> str:
    return f"data: {to_json(value).decode()}\n\n"
