"""Which packets of a track could not be decoded or read, and whether they are too many."""

from collections.abc import Callable

from shared.speech.audio.rate import SAMPLE_RATE, clock

_DAMAGED_PACKETS = 10
_DAMAGED_SHARE = 0.05
"""Packets that may fail to decode: ten, or this share of a longer file. The transcript of a file
with more damage would mislead."""
_APART_S = 1.0
"""What is closer together counts as one place."""
_PLACES_NAMED = 10

TimeOf = Callable[[int], int]
"""Gives the file's time of a sample."""


class Places:
    """Places of the decoded audio, in order; few of them are kept."""

    def __init__(self) -> None:
        self.samples: list[int] = []
        self._n = 0
        self._last_s = -_APART_S

    def note(self, at_s: float, duration_s: float = 0.0) -> None:
        """Take a place, and the length of what is missing there."""
        if not self._n or at_s - self._last_s >= _APART_S:
            self._n += 1
            if len(self.samples) < _PLACES_NAMED:
                self.samples.append(round(at_s * SAMPLE_RATE))
        self._last_s = at_s + duration_s

    def are_near(self, others: "Places") -> bool:
        """Return whether each of these is at one of the others."""
        near = _APART_S * SAMPLE_RATE
        return all(any(abs(a - b) <= near for b in others.samples) for a in self.samples)

    def named(self, time_of: TimeOf) -> str:
        """Return their times for people."""
        names = [clock(time_of(sample)) for sample in self.samples]
        if self._n > len(names):
            names.append(f"{self._n - len(names)} more")
        return ", ".join(names)


class Gaps:
    """Silence that timestamps leave between sounds."""

    def __init__(self) -> None:
        self.places = Places()
        self.total_s = 0.0

    def note(self, at_s: float, duration_s: float) -> None:
        """Take a gap in the sound."""
        self.total_s += duration_s
        self.places.note(at_s, duration_s)

    def detail(self, time_of: TimeOf) -> str:
        """Return one sentence for people."""
        return (
            f"The file's timestamps leave {self.total_s:.1f} s without sound, "
            f"at {self.places.named(time_of)}: nothing was recorded there, or it is lost."
        )


class Damage:
    """The damaged places of a track."""

    def __init__(self) -> None:
        self.n_packets = 0
        """Packets that were decoded."""
        self.lost_s = 0.0
        """Length of the packets that could not be decoded."""
        self.places = Places()
        self._n_damaged = 0
        self._n_unread = 0
        self._unread_bytes = 0

    @property
    def any(self) -> bool:
        return self._n_damaged + self._n_unread + self._unread_bytes > 0

    @property
    def is_too_much(self) -> bool:
        """Whether a transcript would mislead, judged against the whole file."""
        n_packets = self.n_packets + self._n_damaged
        return self._n_damaged > max(_DAMAGED_PACKETS, _DAMAGED_SHARE * n_packets)

    def note(self, at_s: float, duration_s: float) -> None:
        """Take a packet that cannot be decoded; ``at_s`` is where its sound would be."""
        self._n_damaged += 1
        self.lost_s += duration_s
        self.places.note(at_s, duration_s)

    def note_failed_read(self, at_s: float) -> None:
        """Take a place where no packet can be read."""
        self._n_unread += 1
        self.places.note(at_s)

    def note_unread(self, at_s: float, start: int, end: int) -> None:
        """Take bytes [start, end) of the file that cannot be read."""
        self._n_unread += 1
        self._unread_bytes += end - start
        self.places.note(at_s)

    def detail(self, time_of: TimeOf) -> str:
        """Return one sentence for people."""
        what = []
        if self._n_damaged:
            what.append(f"{self._n_damaged} of {self.n_packets + self._n_damaged} packets")
        if self._unread_bytes:
            what.append(f"{self._unread_bytes:,} bytes")
        where = self.places.named(time_of)
        if not what:
            return f"A part of the sound cannot be read and was left out, at {where}."
        return f"{' and '.join(what)} of the sound are damaged and were left out, at {where}."
