"""The file's clock: what a stream's timestamps say about where its sound is.

A stamp is a frame's timestamp, in seconds after the file's start. A frame's position is where the
frames before it end, if samples are counted. A stamp is *ahead* by the difference of the two.

- A single stamp that is off, and jitter, move nothing: frames stay contiguous.
- A jump that the stamps of the next ``CONFIRM_S`` confirm is followed. A jump ahead becomes
  silence. After a jump back, frames that repeat what was heard before are dropped.
- How far stamps are ahead otherwise may drift. The drift moves no sample: it goes into a time map.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from av.audio.frame import AudioFrame

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.timemap import TimeMap

NEAR_S = 0.1
"""A stamp that is off by less is jitter or drift: Matroska rounds to milliseconds."""
CONFIRM_S = 2.0
"""The stamps of so much sound confirm a jump. An MPEG-TS packet of several frames may be a second
long and has one stamp."""
_CONFIRM_STAMPS = 3
_MAX_HELD = 2_000
"""The most frames that wait for a jump to be confirmed. Most codecs' frames last 3 to 100 ms."""
_MAX_HOLE_S = 3600
"""A longer jump is a broken clock, not silence: MPEG-TS wraps after 26.5 hours."""
_WINDOW_S = 2.0
"""The level is the median over so much sound."""
_NOTE_EVERY_S = 0.04
_STEP_S = 0.004
"""The map follows the level in steps of at least this."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A frame, and the silence that belongs in front of it."""

    frame: AudioFrame
    gap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Held:
    frame: AudioFrame
    stamp_s: float | None
    length_s: float


Repeats = Callable[[list[AudioFrame], float], float]
"""Takes frames and how far their stamps go back; returns how many seconds were heard before."""


class Clock:
    """Places frames, each at most ``CONFIRM_S`` after it was pushed."""

    def __init__(self, repeats: Repeats) -> None:
        self.times = TimeMap()
        self._repeats = repeats
        self._held: list[_Held] = []
        self._held_s = 0.0
        self._position_s = 0.0
        """End of the frames placed so far, silence included."""
        self._rebase_s = 0.0
        """Added to every stamp, after jumps that were not followed and for joined files."""
        self._level_s: float | None = None
        """How far stamps are ahead now: the median of the window. None before the first frame."""
        self._drop_s = 0.0
        """Length of the frames still to be dropped, because they repeat what was heard before."""
        self._shift_s = 0.0
        """How far stamps are ahead by the last anchor of the map."""
        self._calm_from_s = 0.0
        """Stamps at earlier positions do not change the level: stamps near them were wrong."""
        self._window: deque[tuple[float, float]] = deque()
        """Recent positions, and how far stamps were ahead there."""
        self._n_calm = 0
        """How many of the window's newest entries agree with the map."""

    def push(self, frame: AudioFrame, stamp_s: float | None) -> Iterator[Placed]:
        """Take the next frame and its stamp; yield the frames that are placed now."""
        yield from self._take(_Held(frame, stamp_s, frame.samples / frame.sample_rate))

    def advance(self, stamp_s: float, length_s: float) -> bool:
        """Place a frame contiguously if its stamp is as expected, as nearly all are.

        Returns:
            Whether it is; if not, the frame is to be pushed.
        """
        if self._held or self._level_s is None or self._drop_s >= length_s / 2:
            return False
        ahead_s = stamp_s + self._rebase_s - self._position_s
        if abs(ahead_s - self._level_s) > NEAR_S:
            return False
        self._note(ahead_s)
        self._position_s += length_s
        return True

    def skip(self, duration_s: float) -> None:
        """Advance a stream without stamps: each sample is its own time."""
        self._position_s += duration_s
        self.times.known_until = int(self._position_s * SAMPLE_RATE)

    def restart(self) -> Iterator[Placed]:
        """Begin a joined file, whose stamps count from the end of this one; yield what is held."""
        yield from self._finish_held()
        self._rebase_s = self._position_s + self._shift_s
        self._level_s = None
        self._window.clear()
        self._n_calm = 0

    def finish(self) -> Iterator[Placed]:
        """Yield what is held; call once, after the last frame."""
        yield from self._finish_held()
        if self._window:
            self._follow()
        self.times.known_until = round(self._position_s * SAMPLE_RATE)

    def _finish_held(self) -> Iterator[Placed]:
        while self._held:
            if self._level_s is None:
                yield from self._start()
            elif sum(held.stamp_s is not None for held in self._held) > 1:
                yield from self._jump()
            else:
                yield from self._release()

    def _take(self, new: _Held) -> Iterator[Placed]:
        if self._drop_s >= new.length_s / 2:
            self._drop_s -= new.length_s
            return
        if self._level_s is None and (self._held or new.stamp_s is not None):
            self._hold(new)
            if self._confirmed():
                yield from self._start()
            return
        if new.stamp_s is None or self._level_s is None:
            if self._held:
                self._hold(new)
            else:
                yield from self._place(new)
                if not self._window:
                    self.times.known_until = int(self._position_s * SAMPLE_RATE)
            return
        ahead_s = self._ahead_s(new, self._held_s)
        off_s = ahead_s - self._level_s
        if abs(off_s) <= NEAR_S:
            if self._held:
                yield from self._release()
            self._note(ahead_s)
            yield from self._place(new)
            return
        if self._held and (self._first_off_s() > 0) != (off_s > 0):
            yield from self._release()
        self._hold(new)
        if self._confirmed():
            yield from self._jump()

    def _hold(self, new: _Held) -> None:
        self._held.append(new)
        self._held_s += new.length_s

    def _confirmed(self) -> bool:
        if len(self._held) >= _MAX_HELD:
            return True
        return self._held_s >= CONFIRM_S and len(self._held) >= _CONFIRM_STAMPS

    def _ahead_s(self, held: _Held, before_s: float) -> float:
        """Return how far a stamp is ahead that has ``before_s`` of held frames before it."""
        assert held.stamp_s is not None
        return held.stamp_s + self._rebase_s - self._position_s - before_s

    def _all_ahead_s(self) -> list[float]:
        """Return how far the stamps of the held frames are ahead."""
        ahead, before_s = [], 0.0
        for held in self._held:
            if held.stamp_s is not None:
                ahead.append(self._ahead_s(held, before_s))
            before_s += held.length_s
        return ahead

    def _first_off_s(self) -> float:
        assert self._level_s is not None
        return self._all_ahead_s()[0] - self._level_s

    def _start(self) -> Iterator[Placed]:
        """Decide from the held frames' stamps where the sound starts, and place the frames."""
        ahead = self._all_ahead_s()
        gap_s, self._level_s = 0.0, self._shift_s
        if ahead:
            # The first value that several stamps agree on.
            groups = ([x for x in ahead if abs(x - first) <= NEAR_S] for first in ahead)
            needed = max(_CONFIRM_STAMPS, len(ahead) // 8)
            agreed = sorted(next((g for g in groups if len(g) >= needed), ahead[:1]))
            start_s = agreed[len(agreed) // 2] - self._shift_s
            if NEAR_S < start_s <= _MAX_HOLE_S:
                gap_s = start_s
            elif abs(start_s) > NEAR_S:
                self._rebase_s -= start_s
            else:
                self._level_s += start_s
        yield from self._again(gap_s)

    def _jump(self) -> Iterator[Placed]:
        """Follow the smallest jump that the held frames' stamps confirm."""
        assert self._level_s is not None
        ahead = self._all_ahead_s()
        forward = ahead[0] > self._level_s
        least = min(ahead) if forward else max(ahead)
        agreed = sorted(value for value in ahead if abs(value - least) <= NEAR_S)
        jump_s = agreed[len(agreed) // 2] - self._level_s
        if forward and jump_s <= _MAX_HOLE_S:
            yield from self._again(jump_s)
            return
        repeated_s = 0.0
        if not forward:
            repeated_s = self._repeats([held.frame for held in self._held], -jump_s)
        if repeated_s:
            self._drop_s = repeated_s
        else:
            # The clock is broken or was set back, so the frame follows the one before it.
            self._rebase_s -= jump_s
        yield from self._again(0.0)

    def _again(self, gap_s: float) -> Iterator[Placed]:
        """Place the first held frame after a gap, and take the others again."""
        held, self._held, self._held_s = self._held, [], 0.0
        self._position_s += gap_s
        while held and self._drop_s >= held[0].length_s / 2:
            self._drop_s -= held.pop(0).length_s
        if not held:
            return
        first, *others = held
        if first.stamp_s is not None:
            ahead_s = self._ahead_s(first, 0.0)
            if self._level_s is not None and abs(ahead_s - self._level_s) <= NEAR_S:
                self._note(ahead_s)
        yield from self._place(first, gap_s)
        for other in others:
            yield from self._take(other)

    def _release(self) -> Iterator[Placed]:
        """Place the held frames contiguously, as their stamps were wrong."""
        held, self._held, self._held_s = self._held, [], 0.0
        for each in held:
            yield from self._place(each)
        self._calm_from_s = self._position_s + _WINDOW_S

    def _place(self, held: _Held, gap_s: float = 0.0) -> Iterator[Placed]:
        self._position_s += held.length_s
        yield Placed(held.frame, gap_s)

    def _note(self, ahead_s: float) -> None:
        """Add the next frame's stamp to the window, and follow the window."""
        position_s = self._position_s
        if position_s < self._calm_from_s:
            settled = int((position_s - _WINDOW_S) * SAMPLE_RATE)
            self.times.known_until = max(self.times.known_until, settled)
            return
        if self._window and position_s - self._window[-1][0] < _NOTE_EVERY_S:
            return
        self._window.append((position_s, ahead_s))
        while position_s - self._window[0][0] > _WINDOW_S:
            self._window.popleft()
        if abs(ahead_s - self._shift_s) <= _STEP_S / 2:
            self._n_calm += 1
        else:
            self._n_calm = 0
        if self._n_calm < len(self._window):
            self._follow()
        middle_s = self._window[len(self._window) // 2][0]
        self.times.known_until = int(middle_s * SAMPLE_RATE)

    def _follow(self) -> None:
        """Set the level to the window's median, and the map to it from the window's middle on."""
        ahead = sorted(ahead_s for _, ahead_s in self._window)
        self._level_s = ahead[len(ahead) // 2]
        if abs(self._level_s - self._shift_s) >= _STEP_S:
            middle = len(self._window) // 2
            before_s = self._window[middle - 1][0] if middle else 0.0
            for at_s, shift_s in (
                (before_s, self._shift_s),
                (self._window[middle][0], self._level_s),
            ):
                self.times.add(round(at_s * SAMPLE_RATE), round((at_s + shift_s) * SAMPLE_RATE))
            self._shift_s = self._level_s
