"""A model that is in memory while it is used."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from shared.infra.errors import DeviceOutOfMemory, ModelError, WorkerStopping
from shared.infra.settings import Settings
from worker.batching.batcher import Batcher
from worker.batching.load import Loaded
from worker.batching.shared_device import SharedDevice
from worker.engines.memory import give_back_memory

log = logging.getLogger(__name__)

Residence = Literal["loading", "ready", "unloaded"]
"""Where a model is: on its way into memory, there, or on the disk alone."""

_LOOK_S = 1.0
"""How often it is looked whether a model is idle, at least."""
_LEAVE_S = 60.0
"""How long a load that finds too little memory waits for the work in hand of another model."""
_LEAVE_LOOK_S = 0.02
"""How often it is looked meanwhile whether that is done."""
_TURN_S = 0.1
"""How long one that is asked to leave at once may need to see whether it is in use."""


class ResidentModel:
    """A model and its batcher. Both are dropped when nobody has used them for ``idle_unload_s``,
    and whoever uses them next has them loaded again. Any thread may call.

    Where memory is too small for the load or for a call of a model, the other one of the device
    that was used least recently is dropped as well, and it is tried once more.

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
        device: SharedDevice | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load nothing yet.

        Args:
            load: loads the model.
            settings: of the batcher, and after how much time a model is idle.
            watchdog: entered around each call of the engine, and each load but the first.
            tell: called with each change; with what was loaded once it is ready.
            end_worker: called when the model cannot be loaded again.
            device: which other models may share; by default it has this model only.
            clock: seconds that do not go back.
        """
        self.failure: Exception | None = None
        """Why the model could not be loaded again."""
        self._load_engine, self._settings, self._watchdog = load, settings, watchdog
        self._tell, self._end_worker, self._clock = tell, end_worker, clock
        self._idle_s = settings.idle_unload_s
        self._batcher: Batcher | None = None
        self._turn = threading.Condition(threading.Lock())
        """Held while the model is loaded or unloaded; guards the two below."""
        self._n_users = 0
        self._used_at = clock()
        self._closing = threading.Event()
        self._device = device or SharedDevice()
        self._device.admit(self)

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
            while self._batcher is not None and self._batcher.gives_way:
                self._turn.wait()
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

    # As the other models of the device see it (``worker.batching.shared_device.Tenant``).

    def last_use(self) -> float | None:
        """When it was used last, ``inf`` if it is in use; None while it is not in memory."""
        batcher = self._batcher
        if batcher is None:
            return None
        return math.inf if self._n_users or not batcher.is_idle() else self._used_at

    def leave(self, within_s: float) -> bool:
        """Unload the model once nobody uses it; return whether it did so within that time.

        Meanwhile nobody begins to use it.
        """
        until = time.monotonic() + within_s
        if not self._turn.acquire(timeout=max(within_s, _TURN_S)):
            return False
        try:
            batcher = self._batcher
            if batcher is None:
                return False
            batcher.gives_way = True
            while self._batcher is batcher and (self._n_users or not batcher.is_idle()):
                if time.monotonic() >= until:
                    batcher.gives_way = False
                    return False
                self._turn.wait(_LEAVE_LOOK_S)
            if self._batcher is batcher:
                self._unload()
            return True
        finally:
            self._turn.notify_all()
            self._turn.release()

    def hear_of_speech(self) -> None:
        """Somebody speaks to a model of the device: calls are to be short."""
        batcher = self._batcher
        if batcher is not None:
            batcher.note_speech()

    def own_busy_s(self) -> float:
        """Return as ``Batcher.busy_s`` does; 0 while it is not loaded."""
        batcher = self._batcher
        return batcher.busy_s() if batcher is not None else 0.0

    # As beats see it (``worker.live.beats.Device``).

    @property
    def is_loaded(self) -> bool:
        """Whether it can be used at once."""
        batcher = self._batcher
        return batcher is not None and not batcher.gives_way

    def live_room(self, within_s: float = 0.0) -> int:
        """Return as ``Batcher.live_room`` does; 0 while it is not loaded."""
        batcher = self._batcher
        return batcher.live_room(within_s) if batcher is not None else 0

    def live_capacity(self) -> int:
        """Return as ``Batcher.live_capacity`` does; 0 while it is not loaded."""
        batcher = self._batcher
        return batcher.live_capacity() if batcher is not None else 0

    def busy_s(self) -> float:
        """Return the time until the device can begin with another call of any of its models."""
        return self._device.busy_s()

    def note_speech(self) -> None:
        """Somebody speaks to this model, if only by way of another worker."""
        self._device.note_speech()

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
        with self._device.loads:
            loaded = self._load_if_it_fits() or self._load_engine()
        batcher = Batcher(
            loaded.engine,
            max_wait_ms=self._settings.batch_wait_ms,
            live_call_ms=self._settings.live_call_ms,
            watchdog=self._watchdog,
            device=self._device,
            make_room=self._make_room if self._device.is_shared else None,
        )
        self._used_at = self._clock()
        self._batcher = batcher
        self._tell("ready", loaded)
        return batcher

    def _load_if_it_fits(self) -> Loaded | None:
        """Return what was loaded; None if that is to be tried again, as another model has left."""
        try:
            return self._load_engine()
        except ModelError as error:
            if not isinstance(error.__cause__, DeviceOutOfMemory) or not self._device.is_shared:
                raise
            log.warning("%s: another model is to leave the memory", error)
            full = ModelError(str(error))
        # Not in the ``except``: its error's traceback holds what was loaded so far.
        give_back_memory()
        if not self._device.make_room(self, _LEAVE_S):
            raise full
        return None

    def _make_room(self) -> bool:
        """Have another model leave that nobody uses, for a call that does not fit."""
        return self._device.make_room(self, 0.0)

    def _unload(self) -> None:
        assert self._batcher is not None, "only a model that is loaded is unloaded"
        batcher, self._batcher = self._batcher, None
        batcher.close()
        give_back_memory()
        self._tell("unloaded", None)
