"""The total of a batch, from how far its files are."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from cli.progress.figures import Total, duration, factor
from cli.transcribe.estimate import Estimate
from cli.transcribe.work import State, Work


class Tally:
    """Adds up the files of a batch."""

    def __init__(self, works: Sequence[Work], clock: Callable[[], float]) -> None:
        self._works = works
        self._clock = clock
        self._began_s = clock()
        self._estimate = Estimate()

    def total(self) -> Total:
        """Return how far the batch is; to be called about once a second, for the estimate."""
        now_s = self._clock()
        done_s, total_s = self._audio()
        self._estimate.observe(now_s, done_s, total_s)
        wall_s = now_s - self._began_s
        return Total(
            files=len(self._works),
            done=self._count(State.DONE),
            failed=self._count(State.FAILED),
            fraction=self._fraction(),
            audio_s=self._done_audio_s(),
            rtfx=done_s / wall_s if done_s and wall_s > 0 else None,
            eta_s=self._estimate.eta_s if self._count(State.OPEN) else None,
        )

    def summary(self, *, skipped: int, refused: int) -> str:
        """Return the closing sentence: counts of files, length of the audio, time taken."""
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
        audio = duration(self._done_audio_s())
        line = f"{', '.join(counts)}; {audio} of audio in {duration(wall_s)}"
        heard_s = self._done_audio_s(with_cached=False)
        return f"{line}, RTFx {factor(heard_s / wall_s)}" if heard_s and wall_s > 0 else line

    def _count(self, state: State) -> int:
        return sum(work.state is state for work in self._works)

    def _done_audio_s(self, *, with_cached: bool = True) -> float:
        done = (work for work in self._works if work.state is State.DONE)
        return sum(work.audio_s or 0.0 for work in done if with_cached or not work.cached)

    def _fraction(self) -> float:
        """Return the share of the batch that is done, by the files' sizes, in [0, 1]."""
        total_bytes = sum(work.source.size_bytes for work in self._works)
        done_bytes = sum(
            work.source.size_bytes * (work.share if work.state is State.OPEN else 1.0)
            for work in self._works
        )
        return done_bytes / total_bytes if total_bytes else 0.0

    def _audio(self) -> tuple[float, float]:
        """Return (transcribed, to be transcribed in all) in seconds of audio.

        An unknown length is guessed from the file's size. The ratio is that of files of the same
        extension with known lengths, else of all files. Cached files do not count. Of a file that
        failed only what was transcribed counts.
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
                length_s = work.source.size_bytes * known_s[kind] / (known_bytes[kind] or 1)
            heard_s = length_s * work.share
            done_s += heard_s
            total_s += heard_s if work.state is State.FAILED else length_s
        return done_s, total_s
