"""What the next engine call is: decisions alone, without threads, engine and clock.

Items wait in three lanes: finals, partials, and chunks of jobs. A call has one leading item and,
from the same lane and those after it, the items that may share its call.

While somebody speaks to the model, a call holds up a person's text for as long as it lasts. So it
is kept short, by the time that calls of its size took. Chunks get their share nevertheless: calls
of partials keep a distance within which a call of chunks begins, and chunks that have waited for
long go first once (``pacing``).
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from worker.batching.calls import Call, CallSizes, EngineCalls, windows_of
from worker.batching.choice import choose, count_fitting
from worker.batching.items import Item, Lane
from worker.batching.limit import BatchLimit
from worker.batching.pacing import Pacing

PREPARATION_S = 0.1
"""How much longer a call waits while items are being prepared that could be in it."""


class Turn(NamedTuple):
    """The items of a call; without any, in how many seconds to ask again, if nothing changes."""

    items: list[Item]
    wait_s: float | None = None


class Schedule:
    """The items that wait, the calls under way, and the rules that make the next call.

    Times are seconds of any one clock that does not go back.
    """

    def __init__(
        self,
        largest: int,
        *,
        window_samples: int,
        streams: int = 1,
        max_wait_s: float = 0.005,
        live_call_s: float = 0.15,
    ) -> None:
        """Begin with nothing.

        Args:
            largest: the most windows in one call.
            window_samples: the length of a window.
            streams: calls that run side by side.
            max_wait_s: how long an item waits for others to share its call.
            live_call_s: how long a call should take at most while somebody speaks.
        """
        self.limit = BatchLimit(largest)
        self._sizes = CallSizes(self.limit, live_call_s)
        self._calls = EngineCalls(self._sizes, streams, window_samples)
        self._window_samples = window_samples
        self._streams = streams
        self._max_wait_s = max_wait_s
        self._queue: list[Item] = []
        """Items that no call has taken, oldest first."""
        self._mean_share = 1.0
        """Length of recent chunks, in windows."""
        self._pacing = Pacing()
        self._is_reserved = True

    @property
    def is_empty(self) -> bool:
        return not self._queue

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and no stream is at a batch."""
        return not self._queue and not self._calls.n_taken

    def add(self, item: Item, now: float) -> None:
        """Queue an item."""
        if item.is_live:
            self.note_speech(now)
        elif not any(not other.is_live for other in self._queue):
            self._pacing.note_chunks(now)
        self._queue.append(item)

    def add_again(self, items: Sequence[Item]) -> None:
        """Queue items that are to be inferred once more, before all others of their lane."""
        self._queue[:0] = items

    def remove(self, item: Item) -> bool:
        """Drop an item that needs no call; return whether it was still wanted."""
        if item not in self._queue:
            return False
        self._queue.remove(item)
        return item.begin()

    def note_prepared(self, item: Item) -> None:
        """An item can be taken from now on."""
        if item.is_live:
            return
        share = min(1.0, max(0.25, item.n_samples / self._window_samples))
        self._mean_share += (share - self._mean_share) / 16

    def note_speech(self, now: float) -> None:
        """Somebody speaks to this model, be it by way of another worker."""
        self._pacing.note_speech(now)

    def reserve(self, *, is_reserved: bool) -> None:
        """Keep chunks that take long back while somebody speaks, or leave speech to others."""
        self._is_reserved = is_reserved

    def next(self, now: float, *, closing: bool = False) -> Turn:
        """Take the items of the next call for one stream; when ``closing`` nothing waits."""
        while True:
            self._drop_cancelled()
            turn = self._choose(now, closing=closing)
            if not turn.items:
                return turn
            chosen = set(map(id, turn.items))
            self._queue = [item for item in self._queue if id(item) not in chosen]
            if items := [item for item in turn.items if item.begin()]:
                self._calls.take(items)
                return Turn(items)

    def preview(self, now: float, *, closing: bool = False) -> Turn:
        """Return what ``next`` would return now, and take nothing."""
        self._drop_cancelled()
        return self._choose(now, closing=closing)

    def finish_turn(self) -> None:
        """The stream that took items is done with them."""
        self._calls.finish_turn()

    def begin_call(self, stream: int, items: Sequence[Item], now: float) -> None:
        """The engine is called with some of the items that the stream took."""
        call = self._calls.begin(stream, items, now)
        if call.has_chunks:
            self._pacing.note_chunks(now)
        self._pace(call, call.predicted_s or 0.0)

    def end_call(self, stream: int, now: float, *, succeeded: bool) -> None:
        """The stream's call is over."""
        call = self._calls.end(stream, now, succeeded=succeeded)
        self._pace(call, now - call.began)
        if call.has_chunks:
            self._pacing.note_chunks(now)

    def return_to_turn(self, items: Sequence[Item], *, too_large: bool) -> None:
        """A call did not fit the device's memory; its items are called again.

        If it was ``too_large`` that is in smaller parts, else memory was freed for it.
        """
        self._calls.divide(items, too_large=too_large)

    def room(self, now: float) -> int:
        """Return how many more chunks can be used now.

        They fill the next batch of each stream while it works, and the next two while it is idle.
        So the engine never waits for audio, and no chunk waits here for long. Queued chunks count;
        one that is to be alone counts as a batch. Of short chunks a batch holds more.
        """
        size = self._chunk_windows(now)
        chunks = [item for item in self._queue if not item.is_live]
        n_queued = sum(1 if item.alone is None else size for item in chunks)
        n_batches = 2 * self._streams - self._calls.n if self._may_infer_chunks(now) else 1
        n_per_batch = int(size / self._mean_share)
        return max(0, n_batches * n_per_batch - n_queued - self._calls.n_items_left)

    def live_room(self, now: float) -> int:
        """Return how many live requests could be inferred as soon as they are here."""
        n_waiting = sum(item.is_live for item in self._queue)
        return max(0, self._calls.n_free(now) * self._sizes.of_live_items() - n_waiting)

    def live_capacity(self) -> int:
        """Return how many live items can be inferred at once while no chunk is."""
        return self._streams * self._sizes.of_live_items()

    def busy_s(self, now: float) -> float:
        """Return the seconds until a stream is free, as far as that is known."""
        return self._calls.busy_s(now)

    def next_live_room_s(self, now: float) -> float:
        """Return in how many seconds ``live_room`` may grow by itself; ``inf``: not foreseeable."""
        return self._calls.next_end_s(now)

    def _drop_cancelled(self) -> None:
        for item in [item for item in self._queue if item.future.cancelled()]:
            self._queue.remove(item)
            item.future.set_running_or_notify_cancel()

    def _choose(self, now: float, *, closing: bool) -> Turn:
        """Return the items of the next call, of the first lane that may begin one."""
        if self._calls.is_exclusive:
            return Turn([])
        opens = math.inf
        for lane in self._lanes(now):
            lead = self._lead(lane)
            if lead is None:
                continue
            at = -math.inf if closing else self._opens_at(lead, now)
            if at > now:
                opens = min(opens, at)
                continue
            if lead.alone is not None:
                is_turn = not self._calls.n_taken and lead is self._first(lane)
                return Turn([lead]) if is_turn else Turn([], _until(opens, now))
            items, is_full = self._call_of(lead, now)
            at = self._waits_until(lead)
            if is_full or closing or at <= now:
                return Turn(items)
            return Turn([], _until(min(at, opens), now))
        return Turn([], _until(opens, now))

    def _lanes(self, now: float) -> Iterable[Lane]:
        if self._are_chunks_overdue(now):
            return Lane.BATCH, Lane.FINAL, Lane.PARTIAL
        return Lane

    def _first(self, lane: Lane) -> Item | None:
        return next((item for item in self._queue if item.lane is lane), None)

    def _lead(self, lane: Lane) -> Item | None:
        """Return the lane's item that the next call begins with: the oldest, or a first partial."""
        ready = [item for item in self._queue if item.lane is lane and item.is_ready]
        return min(ready, key=lambda item: not item.first, default=None)

    def _opens_at(self, lead: Item, now: float) -> float:
        """Return when a call may begin with this item."""
        if lead.lane is Lane.FINAL or lead.first:
            return -math.inf
        if lead.lane is Lane.PARTIAL:
            chunks_wait = self._first(Lane.BATCH) is not None and self._may_infer_chunks(now)
            return self._pacing.partials_from if chunks_wait else -math.inf
        if self._are_chunks_overdue(now):
            return -math.inf
        if not self._may_infer_chunks(now):
            return self._pacing.long_chunks_from
        # A live item that is nearly ready would have to wait for the whole call.
        preparing = (item for item in self._queue if item.is_live and not item.is_ready)
        return max((item.submitted + PREPARATION_S for item in preparing), default=-math.inf)

    def _are_chunks_overdue(self, now: float) -> bool:
        waits = self._lead(Lane.BATCH) is not None
        return waits and self._pacing.are_chunks_overdue(now)

    def _may_infer_chunks(self, now: float) -> bool:
        """Return whether a call of chunks holds up nobody for long.

        Where one chunk takes too long, as on a processor, one stream is left to those who speak,
        unless other workers are.
        """
        if not self._is_reserved or not self._pacing.is_anybody_speaking(now):
            return True
        if self._sizes.is_short(1):
            return True
        return self._calls.n_with_chunks < self._streams - 1

    def _chunk_windows(self, now: float) -> int:
        """Return the most windows of a call of chunks."""
        return self._sizes.of_chunks(short=self._pacing.is_anybody_speaking(now))

    def _call_of(self, lead: Item, now: float) -> tuple[list[Item], bool]:
        """Return the items of a call that begins with this one; and whether it has no more room."""
        alike = [lead] + [
            item
            for item in self._queue
            if item is not lead and item.alone is None and _shares_call(item, lead)
        ]
        if lead.is_live:
            return self._live_call(alike, now)
        chunks = [item for item in alike if not item.is_live]
        indices, is_full = choose(chunks, self._chunk_windows(now), self._window_samples)
        return [chunks[i] for i in indices], is_full

    def _live_call(self, alike: Sequence[Item], now: float) -> tuple[list[Item], bool]:
        live = sorted((item for item in alike if item.is_live), key=lambda item: item.lane)
        # Streams that are idle each take their share.
        n_streams = max(1, self._streams - self._calls.n_taken)
        size = min(self._sizes.of_live_items(), -(-len(live) // n_streams))
        n = count_fitting(live, size, self._window_samples)
        chunks = [item for item in alike if not item.is_live]
        return live[:n] + self._that_join(live[:n], chunks, now), n < len(live)

    def _that_join(self, live: list[Item], chunks: list[Item], now: float) -> list[Item]:
        """Return the chunks for which a call has places to spare: it stays short with them."""
        size = self._chunk_windows(now)
        if not chunks or not self._sizes.is_known_to_be_short(size):
            return []
        if windows_of(live, self._window_samples) > size:
            return []
        n = count_fitting([*live, *chunks], size, self._window_samples)
        return chunks[: max(0, n - len(live))]

    def _waits_until(self, lead: Item) -> float:
        """Return until when a call waits for more items."""
        until = lead.submitted + self._max_wait_s
        if lead.is_live or all(item.is_ready for item in self._queue):
            return until
        return until + PREPARATION_S

    def _pace(self, call: Call, duration_s: float) -> None:
        """Set when the next call of partials may begin."""
        if not call.has_partials:
            return
        chunks = [item for item in call.items if not item.is_live]
        n_windows = windows_of(chunks, self._window_samples) if chunks else 0
        if 4 * n_windows >= self._chunk_windows(call.began):
            return  # chunks have had their share in this very call
        self._pacing.note_partials(call.began, duration_s)


def _shares_call(item: Item, lead: Item) -> bool:
    if item.prepared is None or lead.prepared is None:
        return False
    return bool(item.prepared.group == lead.prepared.group)


def _until(at: float, now: float) -> float | None:
    return None if math.isinf(at) else at - now
