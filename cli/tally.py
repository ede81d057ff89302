"""How far the files of a batch are, one by one and all together."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from cli.estimate import Estimate
from cli.files import Source
from cli.progress import Total, duration, factor


class State(Enum):
    """How a file stands."""

    OPEN = "open"
    """Not begun, or under way."""
    DONE = "done"
    """Its transcript is where it was asked for, or about to be printed."""
    FAILED = "failed"


@dataclass(slots=True)
class Work:
    """One file of a batch; written by the thread that does it, and by nobody else."""

    source: Source
    state: State = State.OPEN
    share: float = 0.0
    """Transcribed of it, in [0, 1]."""
    audio_s: float | None = None
    """Its length, once that is known."""
    cached: bool = False
    problem: str = ""
    """Why it failed."""
    texts: dict[str, str] = field(default_factory=dict)
    """What is to be printed, by format."""
    ended: threading.Event = field(default_factory=threading.Event)
    bug: BaseException | None = None
    """What nobody expected, to be raised where it is seen."""


class Tally:
    """A batch as a whole."""

    def __init__(self, works: Sequence[Work], clock: Callable[[], float]) -> None:
        self._works = works
        self._clock = clock
        self._began_s = clock()
        self._estimate = Estimate()

    def total(self) -> Total:
        """Return how far all is; call it about once a second, for the estimate to be good."""
        now_s = self._clock()
        done_s, total_s = self._audio()
        self._estimate.observe(now_s, done_s, total_s)
        wall_s = now_s - self._began_s
        return Total(
            files=len(self._works),
            done=self._count(State.DONE),
            failed=self._count(State.FAILED),
            fraction=self._fraction(),
            audio_s=self.audio_s,
            rtfx=done_s / wall_s if done_s and wall_s > 0 else None,
            eta_s=self._estimate.eta_s if self._count(State.OPEN) else None,
        )

    @property
    def audio_s(self) -> float:
        """Length of what is done, cached or not."""
        return sum(w.audio_s or 0.0 for w in self._works if w.state is State.DONE)

    def summary(self, *, skipped: int, refused: int) -> str:
        """Say in one line what came out of it all."""
        done, failed = self._count(State.DONE), self._count(State.FAILED) + refused
        cached = sum(work.cached for work in self._works)
        counts = [f"{done} of {len(self._works) + skipped + refused} files done"]
        if cached:
            counts[0] += f" ({cached} cached)"
        if failed:
            counts.append(f"{failed} failed")
        if skipped:
            counts.append(f"{skipped} skipped")
        if left := self._count(State.OPEN):
            counts.append(f"{left} not done")
        wall_s = self._clock() - self._began_s
        line = f"{', '.join(counts)}; {duration(self.audio_s)} of audio in {duration(wall_s)}"
        heard_s = sum(
            w.audio_s or 0.0 for w in self._works if w.state is State.DONE and not w.cached
        )
        return f"{line}, RTFx {factor(heard_s / wall_s)}" if heard_s and wall_s > 0 else line

    def _count(self, state: State) -> int:
        return sum(work.state is state for work in self._works)

    def _fraction(self) -> float:
        """Return how much of the batch is behind us, by the files' sizes."""
        total_bytes = sum(work.source.size_bytes for work in self._works)
        done_bytes = sum(
            work.source.size_bytes * (work.share if work.state is State.OPEN else 1.0)
            for work in self._works
        )
        return done_bytes / total_bytes if total_bytes else 0.0

    def _audio(self) -> tuple[float, float]:
        """Return (transcribed, to be transcribed in all) in seconds of audio.

        Lengths that are not known yet are taken to be in proportion to the files' sizes, as in the
        files of that extension whose lengths are known, or else in all those. What was cached costs
        nothing and does not count; nor does the rest of what failed.
        """
        known_s: dict[str, float] = defaultdict(float)
        known_bytes: dict[str, int] = defaultdict(int)
        for work in self._works:
            if work.audio_s is not None:
                for kind in (work.source.path.suffix.lower(), ""):
                    known_s[kind] += work.audio_s
                    known_bytes[kind] += work.source.size_bytes
        done_s = total_s = 0.0
        for work in self._works:
            if work.cached:
                continue
            length_s = work.audio_s
            if length_s is None:
                suffix = work.source.path.suffix.lower()
                kind = suffix if known_bytes[suffix] else ""
                if not known_bytes[kind]:
                    continue
                length_s = work.source.size_bytes * known_s[kind] / known_bytes[kind]
            heard_s = length_s * work.share
            done_s += heard_s
            total_s += heard_s if work.state is State.FAILED else length_s
        return done_s, total_s
