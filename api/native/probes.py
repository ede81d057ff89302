"""Asking a dependency a question without a long wait for the answer."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Probe(Generic[Answer]):
    """A blocking question, asked in a thread; at most one is under way, however often it is asked.

    So a dependency that hangs costs one thread, not one for every health check.
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
            # Keeps asyncio from logging an error that nobody waits for any more.
            self._asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        asked = self._asked
        done, _ = await asyncio.wait([asked], timeout=timeout_s)
        if not done:
            raise TimeoutError
        return asked.result()
