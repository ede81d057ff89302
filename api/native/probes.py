"""Asking a dependency a question without ever waiting long for the answer."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Probe(Generic[Answer]):
    """A blocking question, asked in a thread; at most one is under way however often it is asked.

    A dependency that hangs thus costs one thread, not one for every health check.
    """

    def __init__(self, question: Callable[[], Answer], threads: Executor) -> None:
        self._question = question
        self._threads = threads
        self._asked: asyncio.Future[Answer] | None = None

    async def ask(self, timeout_s: float) -> Answer:
        """Return the answer, or raise what the question raised.

        Raises:
            TimeoutError: no answer in time; the question stays under way.
        """
        if self._asked is None or self._asked.done():
            loop = asyncio.get_running_loop()
            self._asked = loop.run_in_executor(self._threads, self._question)
            # An error nobody waits for any more is not worth asyncio's complaint.
            self._asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        asked = self._asked
        done, _ = await asyncio.wait([asked], timeout=timeout_s)
        if not done:
            raise TimeoutError
        return asked.result()
