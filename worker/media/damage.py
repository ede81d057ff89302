"""Which packets of a track could not be decoded or read, and whether they are too many."""

from collections.abc import Callable

from shared.speech.chunks import SAMPLE_RATE
from shared.speech.stitching import clock

_DAMAGED_PACKETS = 10
_DAMAGED_SHARE = 0.05
"""Packets that may fail to decode: ten, or this share of a longer file. The transcript of a file
with more damage would mislead."""
_APART_S = 1.0
"""Damage that is closer together counts as one place."""
_PLACES_NAMED = 10


class Damage:
    """The damaged places of a track, in order; few of them are kept."""

    def __init__(self) -> None:
        self.n_packets = 0
        """Packets that were decoded."""
        self.lost_s = 0.0
        """Length of the packets that could not be decoded."""
        self._n_damaged = 0
        self._places: list[int] = []
        """Samples of the decoded audio."""
        self._n_places = 0
        self._last_s = -_APART_S
        self._unread_bytes = 0

    @property
    def any(self) -> bool:
        return self._n_damaged > 0 or self._unread_bytes > 0

    @property
    def is_too_much(self) -> bool:
        """Whether a transcript would mislead, judged against the whole file."""
        n_packets = self.n_packets + self._n_damaged
        return self._n_damaged > max(_DAMAGED_PACKETS, _DAMAGED_SHARE * n_packets)

    def note(self, at_s: float, duration_s: float) -> None:
        """Take a packet that cannot be decoded; ``at_s`` is where its sound would be."""
        self._n_damaged += 1
        self.lost_s += duration_s
        self._note_place(at_s)
        self._last_s = at_s + duration_s

    def note_unread(self, at_s: float, start: int, end: int) -> None:
        """Take bytes [start, end) of the file that cannot be read."""
        self._unread_bytes += end - start
        self._note_place(at_s)
        self._last_s = at_s

    def detail(self, time_of: Callable[[int], int]) -> str:
        """Return one sentence for people; ``time_of`` gives the file's time of a sample."""
        what = []
        if self._n_damaged:
            what.append(f"{self._n_damaged} of {self.n_packets + self._n_damaged} packets")
        if self._unread_bytes:
            what.append(f"{self._unread_bytes:,} bytes")
        places = [clock(time_of(place)) for place in self._places]
        if self._n_places > len(places):
            places.append(f"{self._n_places - len(places)} more")
        return (
            f"{' and '.join(what)} of the sound are damaged and were left out, "
            f"at {', '.join(places)}."
        )

    def _note_place(self, at_s: float) -> None:
        if at_s - self._last_s < _APART_S and self._n_places:
            return
        self._n_places += 1
        if len(self._places) < _PLACES_NAMED:
            self._places.append(round(at_s * SAMPLE_RATE))
