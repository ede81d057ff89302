"""A model that is in memory while it is used."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from shared.infra.errors import WorkerStopping
from shared.infra.settings import Settings
from worker.batching.batcher import Batcher
from worker.batching.load import Loaded
from worker.engines.memory import give_back_memory

log = logging.getLogger(__name__)

Residence = Literal["loading", "ready", "unloaded"]
"""Where a model is: on its way into memory, there, or on the disk alone."""

_LOOK_S = 1.0
"""How often it is looked whether a model is idle, at least."""


class ResidentModel:
    """A model and its batcher. Both are dropped when nobody has used them for ``idle_unload_s``,
    and whoever uses them next has them loaded again. Any thread may call.

    Nothing is to be claimed for a model that is not loaded yet: what cannot be loaded again ends
    the worker, as at its start, and so may a load that is interrupted.
    """

    def __init__(
        self,
        load: Callable[[], Loaded],
        settings: Settings,
        watchdog: AbstractContextManager[None],
        *,
        tell: Callable[[Residence, Loaded | None], object] = lambda *_: None,
        end_worker: Callable[[Exception], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load nothing yet.

        Args:
            load: loads the model.
            settings: of the batcher, and after how much time a model is idle.
            watchdog: entered around each call of the engine, and each load but the first.
            tell: called with each change; with what was loaded once it is ready.
            end_worker: called when the model cannot be loaded again.
            clock: seconds that do not go back.
        """
        self.failure: Exception | None = None
        """Why the model could not be loaded again."""
        self._load_engine, self._settings, self._watchdog = load, settings, watchdog
        self._tell, self._end_worker, self._clock = tell, end_worker, clock
        self._idle_s = settings.idle_unload_s
        self._batcher: Batcher | None = None
        self._turn = threading.Lock()
        """Held while the model is loaded or unloaded; guards the two below."""
        self._n_users = 0
        self._used_at = clock()
        self._closing = threading.Event()

    def load(self) -> None:
        """Load the model for the first time.

        Raises:
            ModelError: it cannot be loaded, or cannot infer.
        """
        with self._turn:
            self._load()

    def watch(self) -> None:
        """Unload the model whenever it is idle, from now on, if the settings say so."""
        self._used_at = self._clock()
        if math.isfinite(self._idle_s):
            threading.Thread(target=self._watch, name="resident", daemon=True).start()

    @contextmanager
    def use(self) -> Iterator[Batcher]:
        """Have the model loaded, if it is not, and keep it while the block runs.

        Raises:
            WorkerStopping: it cannot be loaded again, so the worker ends.
        """
        with self._turn:
            batcher = self._batcher or self._load_again()
            self._n_users += 1
        try:
            yield batcher
        finally:
            with self._turn:
                self._n_users -= 1
                self._used_at = self._clock()

    def unload_if_idle(self) -> None:
        """Drop the engine and its memory, unless it was used within ``idle_unload_s``."""
        with self._turn:
            if self._batcher is None:
                return
            if self._n_users or not self._batcher.is_idle():
                self._used_at = self._clock()
            elif self._clock() - self._used_at >= self._idle_s:
                self._unload()

    def close(self) -> None:
        """Finish what is queued, and end the batcher's threads."""
        self._closing.set()
        with self._turn:
            if self._batcher is not None:
                self._batcher.close()

    # As beats see it (``worker.live.beats.Device``).

    @property
    def is_loaded(self) -> bool:
        """Whether it can be used at once."""
        return self._batcher is not None

    def live_room(self, within_s: float = 0.0) -> int:
        """Return as ``Batcher.live_room`` does; 0 while it is not loaded."""
        batcher = self._batcher
        return batcher.live_room(within_s) if batcher is not None else 0

    def live_capacity(self) -> int:
        """Return as ``Batcher.live_capacity`` does; 0 while it is not loaded."""
        batcher = self._batcher
        return batcher.live_capacity() if batcher is not None else 0

    def busy_s(self) -> float:
        """Return as ``Batcher.busy_s`` does; 0 while it is not loaded."""
        batcher = self._batcher
        return batcher.busy_s() if batcher is not None else 0.0

    def note_speech(self) -> None:
        """Somebody speaks to this model, if only by way of another worker."""
        batcher = self._batcher
        if batcher is not None:
            batcher.note_speech()

    def reserve(self, *, is_reserved: bool) -> None:
        """Keep chunks that take long back while somebody speaks, or do not."""
        batcher = self._batcher
        if batcher is not None:
            batcher.reserve(is_reserved=is_reserved)

    def _watch(self) -> None:
        while not self._closing.wait(min(_LOOK_S, self._idle_s / 4)):
            self.unload_if_idle()

    def _load_again(self) -> Batcher:
        if self.failure is None:
            try:
                with self._watchdog:
                    return self._load()
            except Exception as error:  # noqa: BLE001 - whatever it is, it ends the worker
                self.failure = error
                self._end_worker(error)
        raise WorkerStopping("the worker ends, as its model cannot be loaded again")

    def _load(self) -> Batcher:
        self._tell("loading", None)
        loaded = self._load_engine()
        batcher = Batcher(
            loaded.engine,
            max_wait_ms=self._settings.batch_wait_ms,
            live_call_ms=self._settings.live_call_ms,
            watchdog=self._watchdog,
        )
        self._used_at = self._clock()
        self._batcher = batcher
        self._tell("ready", loaded)
        return batcher

    def _unload(self) -> None:
        assert self._batcher is not None, "only a model that is loaded is unloaded"
        batcher, self._batcher = self._batcher, None
        batcher.close()
        give_back_memory()
        self._tell("unloaded", None)
