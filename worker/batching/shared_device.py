"""The device of a worker and the models that share it: whose call is next, and who makes room."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Tenant(Protocol):
    """A model in the device's memory, or on its way there."""

    def last_use(self) -> float | None:
        """When it was used last, ``inf`` if it is in use; None while it is not in memory."""
        ...

    def leave(self, within_s: float) -> bool:
        """Leave the memory once nobody uses it; return whether it did so within that time."""
        ...

    def hear_of_speech(self) -> None:
        """Somebody speaks to a model of this device: calls are to be short."""
        ...

    def own_busy_s(self) -> float:
        """Return the time until it can begin with another call, by its own calls alone."""
        ...


class SharedDevice:
    """The calls of one model at a time, and every model in turn.

    A turn is one call, or as many side by side as the engine has streams. A model whose call has to
    wait stands in line, once; so it waits for at most one turn of each other model. Where nobody
    stands in line, as with one model, a call begins at once.

    ``changed`` guards all this, and the schedules of the models' batchers.
    """

    def __init__(self) -> None:
        """Nobody uses it."""
        self.changed = threading.Condition()
        self.loads = threading.Lock()
        """Held by the model that is being loaded: one at a time can be told what memory is free."""
        self._tenants: list[Tenant] = []
        self._holder: object = None
        """Whose calls are under way."""
        self._n_calls = 0
        self._n_left = 0
        """Calls that the holder may still begin while others stand in line."""
        self._line: list[object] = []

    # Turns. ``changed`` is held.

    def is_free_for(self, user: object) -> bool:
        """Return whether a call of this model may begin now."""
        if self._holder is None:
            return not self._line or self._line[0] is user
        return self._holder is user and (not self._line or self._n_left > 0)

    def stand_in_line(self, user: object) -> None:
        """The model has a call that could begin."""
        if user not in self._line:
            self._line.append(user)

    def leave_line(self, user: object) -> None:
        """The model has no such call any more."""
        if user in self._line:
            self._line.remove(user)
            self.changed.notify_all()

    def begin(self, user: object, streams: int = 1) -> None:
        """A call begins, as ``is_free_for`` allows; its turn may have as many as ``streams``."""
        if self._holder is None:
            self._holder, self._n_left = user, streams
        if user in self._line:
            self._line.remove(user)
        self._n_calls += 1
        self._n_left -= 1

    def end(self) -> None:
        """A call of the holder is over."""
        self._n_calls -= 1
        if not self._n_calls:
            self._holder = None
        self.changed.notify_all()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for a turn, and use the device for something else than batches."""
        user = object()
        with self.changed:
            while not self.is_free_for(user):
                self.stand_in_line(user)
                self.changed.wait()
            self.begin(user)
        try:
            yield
        finally:
            with self.changed:
                self.end()

    # Memory, and what the models tell each other. ``changed`` is not held.

    def admit(self, tenant: Tenant) -> None:
        """A model is going to use the device, for as long as the worker lives."""
        self._tenants.append(tenant)

    @property
    def is_shared(self) -> bool:
        """Whether several models use it."""
        return len(self._tenants) > 1

    def make_room(self, asker: Tenant, within_s: float) -> bool:
        """Have the other model that was used least recently leave; return whether one did.

        One that is in use is asked last, and leaves once the work in hand is done; it is not asked
        where there is no time for that.
        """
        others = [(each.last_use(), each) for each in self._tenants if each is not asker]
        loaded = [
            (used, each)
            for used, each in others
            if used is not None and (within_s or math.isfinite(used))
        ]
        return any(each.leave(within_s) for _, each in sorted(loaded, key=lambda pair: pair[0]))

    def note_speech(self) -> None:
        """Somebody speaks to one of the models, so the calls of all of them are kept short."""
        for tenant in self._tenants:
            tenant.hear_of_speech()

    def busy_s(self) -> float:
        """Return the time until a call can begin, as far as it is known."""
        return max((tenant.own_busy_s() for tenant in self._tenants), default=0.0)
