"""The engine calls under way, and how large the next ones may be.

Times are seconds of the schedule's clock.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from worker.batching.choice import windows
from worker.batching.costs import CallCosts
from worker.batching.items import Item, Lane
from worker.batching.limit import BatchLimit

LEAD_S = 0.02
"""How long before a call's end live requests are fetched, so that they are ready at its end."""

_OVERDUE_S = 0.05
"""A call that lasts so much longer than predicted may last much longer."""


def windows_of(items: Sequence[Item], window_samples: int) -> int:
    """Return how many windows a call with these items has."""
    longest = max(item.n_samples for item in items)
    return windows(len(items), longest, window_samples)


@dataclass(frozen=True, slots=True)
class Call:
    """A call under way."""

    items: Sequence[Item]
    windows: int
    began: float
    predicted_s: float | None
    """How long it takes; None where that is not known."""

    @property
    def ends(self) -> float:
        """When it ends by prediction; ``inf`` where there is none."""
        return math.inf if self.predicted_s is None else self.began + self.predicted_s

    @property
    def has_chunks(self) -> bool:
        """Whether some of the items are chunks of jobs."""
        return any(not item.is_live for item in self.items)

    @property
    def has_partials(self) -> bool:
        """Whether some of the items are partials."""
        return any(item.lane is Lane.PARTIAL for item in self.items)


class CallSizes:
    """How many windows a call may have: by what fits the device, and by what calls took."""

    def __init__(self, limit: BatchLimit, live_call_s: float) -> None:
        """``live_call_s`` is how long a call should take at most while somebody speaks."""
        self._limit = limit
        self._live_call_s = live_call_s
        self._live_costs = CallCosts()
        """Of calls with live items only; they decode fewer words than chunks do."""
        self._chunk_costs = CallCosts()

    def predict(self, items: Sequence[Item], n_windows: int) -> float | None:
        """Return the seconds of a call with these items; None where that is not known."""
        if items[0].alone is not None:
            return None
        is_live = all(item.is_live for item in items)
        return (self._live_costs if is_live else self._chunk_costs).predict(n_windows)

    def note(self, call: Call, duration_s: float) -> None:
        """A call has succeeded."""
        if call.items[0].alone is None:
            costs = self._chunk_costs if call.has_chunks else self._live_costs
            costs.note(call.windows, duration_s)
            self._limit.fitted(call.windows)

    def failed(self, n_windows: int) -> None:
        """A call was too large for the device's memory."""
        self._limit.failed(n_windows)

    def is_short(self, n_windows: int) -> bool:
        """Return whether a call with chunks of this size is short enough, or may be."""
        duration_s = self._chunk_costs.predict(n_windows)
        return duration_s is None or duration_s <= self._live_call_s

    def is_known_to_be_short(self, n_windows: int) -> bool:
        """Return whether a call with chunks of this size is short enough by earlier calls."""
        return self._chunk_costs.predict(1) is not None and self.is_short(n_windows)

    def of_chunks(self, *, short: bool) -> int:
        """Return the most windows of a call of chunks; ``short``: somebody speaks."""
        if not short:
            return self._limit.size
        return min(self._limit.size, self._chunk_costs.most_within(self._live_call_s) or 1)

    def of_live_items(self) -> int:
        """Return the most windows of a call of live items."""
        most = self._live_costs.most_within(self._live_call_s)
        return min(self._limit.size, most or self._limit.size)


class EngineCalls:
    """The batches that streams have taken, and their calls."""

    def __init__(self, sizes: CallSizes, streams: int, window_samples: int) -> None:
        self._sizes = sizes
        self._streams = streams
        self._window_samples = window_samples
        self._calls: dict[int, Call] = {}
        """By stream."""
        self.n_taken = 0
        """Streams that are at a batch, before, in and after its calls."""
        self.n_items_left = 0
        """Items of current batches that are not in a call yet, as these were divided."""
        self.is_exclusive = False
        """Whether the batch under way is an item that is to be alone."""

    @property
    def n(self) -> int:
        """Calls under way."""
        return len(self._calls)

    @property
    def n_with_chunks(self) -> int:
        """Those with chunks of jobs."""
        return sum(call.has_chunks for call in self._calls.values())

    def take(self, items: Sequence[Item]) -> None:
        """A stream takes a batch."""
        self.n_items_left += len(items)
        self.n_taken += 1
        self.is_exclusive = items[0].alone is not None

    def finish_turn(self) -> None:
        """A stream is done with its batch."""
        self.n_taken -= 1
        self.is_exclusive = False

    def begin(self, stream: int, items: Sequence[Item], now: float) -> Call:
        """The engine is called with some items of the stream's batch."""
        self.n_items_left -= len(items)
        n_windows = windows_of(items, self._window_samples)
        call = Call(items, n_windows, now, self._sizes.predict(items, n_windows))
        self._calls[stream] = call
        return call

    def end(self, stream: int, now: float, *, succeeded: bool) -> Call:
        """The stream's call is over."""
        call = self._calls.pop(stream)
        if succeeded:
            self._sizes.note(call, now - call.began)
        return call

    def divide(self, items: Sequence[Item], *, too_large: bool) -> None:
        """A call did not fit the device's memory: its items are called again, in parts if it was
        ``too_large``.
        """
        self.n_items_left += len(items)
        if too_large:
            self._sizes.failed(windows_of(items, self._window_samples))

    def n_free(self, now: float) -> int:
        """Return how many streams are free, or as good as free."""
        if self.is_exclusive:
            return 0
        lefts = [call.ends - now for call in self._calls.values()]
        n_ending = sum(-_OVERDUE_S <= left <= LEAD_S for left in lefts)
        return min(self._streams, self._streams - self.n_taken + n_ending)

    def busy_s(self, now: float) -> float:
        """Return the seconds until a stream is free, as far as that is known."""
        if self.n_taken < self._streams:
            return 0.0
        left = [call.ends - now for call in self._calls.values() if math.isfinite(call.ends)]
        return max(0.0, min(left, default=0.0))

    def next_end_s(self, now: float) -> float:
        """Return in how many seconds a stream is as good as free; ``inf``: not foreseeable."""
        leads = (call.ends - LEAD_S - now for call in self._calls.values())
        return min((lead for lead in leads if lead > 0), default=math.inf)
