"""Reading for many requests at once.

Requests that ask at the same moment share a read, as its round trips and its hop to a thread and
back cost as much for one job as for dozens.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

from shared.infra.errors import DatabaseUnavailable

Key = TypeVar("Key")
Value = TypeVar("Value")

LIMIT_S = 8.0
"""How long a request waits for its read, all waits for a turn included."""


class Loader(Generic[Key, Value]):
    """Reads values by their keys. For use on one event loop only: nothing is locked.

    No request joins a read that has begun, so each sees all that was committed before it came.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[Sequence[Key]], Mapping[Key, Value | Exception]],
        *,
        threads: int,
        at_once: int,
    ) -> None:
        """Make an idle loader, with ``threads`` that read ``at_once`` keys at most each.

        ``load`` returns a value, or an error to be raised, for each key. Nobody waits for longer
        than ``LIMIT_S``.
        """
        self._load = load
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._n_idle = threads
        self._at_once = at_once
        self._asked: dict[Key, asyncio.Future[Value]] = {}
        self._scheduled = False

    async def get(self, key: Key) -> Value:
        """Return the value.

        Raises:
            DatabaseUnavailable: it could not be read, or not in time.
            Exception: what ``load`` returned for the key.
        """
        loop = asyncio.get_running_loop()
        value = self._asked.get(key)
        if value is None:
            value = self._asked[key] = loop.create_future()
            # Keeps asyncio from logging an error that nobody waits for any more.
            value.add_done_callback(lambda done: done.cancelled() or done.exception())
            if not self._scheduled and self._n_idle:
                self._scheduled = True
                loop.call_soon(self._start)  # others may ask within this turn of the loop
        try:
            async with asyncio.timeout(LIMIT_S):
                return await asyncio.shield(value)  # others may wait for it, too
        except TimeoutError as error:
            raise DatabaseUnavailable("Postgres gives no answer") from error

    def close(self) -> None:
        """Begin no further read."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        self._scheduled = False
        loop = asyncio.get_running_loop()
        while self._asked and self._n_idle:
            keys = list(islice(self._asked, self._at_once))
            asked = {key: self._asked.pop(key) for key in keys}
            self._n_idle -= 1
            loaded = loop.run_in_executor(self._threads, self._load, keys)
            loaded.add_done_callback(partial(self._answer, asked))

    def _answer(
        self,
        asked: Mapping[Key, "asyncio.Future[Value]"],
        loaded: "asyncio.Future[Mapping[Key, Value | Exception]]",
    ) -> None:
        self._n_idle += 1
        self._start()
        if loaded.cancelled():
            for value in asked.values():
                value.cancel()
            return
        error = loaded.exception()
        for key, value in asked.items():
            answer = loaded.result()[key] if error is None else error
            if value.done():
                continue
            if isinstance(answer, BaseException):
                value.set_exception(answer)
            else:
                value.set_result(answer)
