"""Decoded frames, resampled to 16 kHz and put where their timestamps say."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame

from shared.infra.errors import AudioOutOfBounds, AudioTooLong, UnreadableMedia
from shared.infra.quantities import duration
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Channels
from shared.speech.audio.timemap import TimeMap
from worker.media.clock import Clock, Placed
from worker.media.damage import Gaps
from worker.media.repetition import RecentSound
from worker.media.resampler import Resampler

BLOCK_SAMPLES = SAMPLE_RATE
"""Length of every block but the last: one second."""

MIN_RATE_HZ, MAX_RATE_HZ, MAX_CHANNELS = 4_000, 384_000, 8
"""What a file may hold."""


def check_bounds(rate_hz: int, n_channels: int) -> None:
    """Refuse a sample rate or a channel count outside the limits.

    Raises:
        AudioOutOfBounds: it is outside.
    """
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise AudioOutOfBounds(
            f"The sample rate of {rate_hz:,} Hz is outside {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,} Hz."
        )
    if not 1 <= n_channels <= MAX_CHANNELS:
        raise AudioOutOfBounds(
            f"The audio has {n_channels} channels; 1 to {MAX_CHANNELS} are supported."
        )


class Timeline:
    """Puts frames where the file's clock has them, resampled, their channels mixed if asked."""

    def __init__(self, max_duration_s: float, *, mix: bool, stamped: bool) -> None:
        """Begin a timeline.

        Args:
            max_duration_s: the longest audio, silence between sounds included.
            mix: whether all channels are mixed down to one.
            stamped: whether frames have times of their own; otherwise samples count.
        """
        self._max_duration_s = max_duration_s
        self._mix = mix
        self._stamped = stamped
        self._resampler = Resampler(mix=mix)
        self._clock = Clock(self._repeated_s)
        self._n_channels = 0
        """Channels of the frames; 0 before the first one."""
        self._offset_s = Fraction(0)
        """Where the frames of the present rate start. Sums of floats would drift."""
        self._rate = 1
        self._n_frame_samples = 0
        """Samples of the frames at the present rate."""
        self._pending: list[Channels] = []
        self._n_pending = 0
        self._recent = RecentSound()
        self.n_samples = 0
        """Samples resampled so far, silence included."""
        self._lead_samples = 0
        self.gaps = Gaps()

    @property
    def audio_s(self) -> float:
        """Length of what was resampled, without the silence before the first frame."""
        return (self.n_samples - self._lead_samples) / SAMPLE_RATE

    @property
    def end_s(self) -> float:
        """Where the next frame should start, in seconds of samples."""
        return float(self._end_s)

    @property
    def times(self) -> TimeMap:
        """Where samples lie on the file's clock."""
        return self._clock.times

    @property
    def cancelled_s(self) -> float:
        """Length of the sound whose channels cancel each other out; the louder one stands."""
        return self._resampler.cancelled_s

    @property
    def _end_s(self) -> Fraction:
        return self._offset_s + Fraction(self._n_frame_samples, self._rate)

    def place(
        self, frame: AudioFrame, origin_s: float, stamp_s: float | None = None
    ) -> Iterator[Channels]:
        """Take the next frame and yield the blocks that are complete.

        Args:
            frame: of any format.
            origin_s: the stamp of the file's start.
            stamp_s: the frame's time after the file's start, if the frame itself does not say it.

        Raises:
            UnreadableMedia: the number of channels changes, and they are not mixed.
            AudioOutOfBounds: the frame's sample rate or channel count is outside the limits.
            AudioTooLong: more than ``max_duration_s`` has been yielded.
        """
        if not self._stamped:
            self._clock.skip(frame.samples / frame.sample_rate)
            yield from self._place(frame)
            return
        if stamp_s is None and frame.pts is not None and frame.time_base is not None:
            base = frame.time_base
            stamp_s = frame.pts * base.numerator / base.denominator - origin_s
        if stamp_s is not None and self._clock.advance(stamp_s, frame.samples / frame.sample_rate):
            yield from self._place(frame)
            return
        for placed in self._clock.push(frame, stamp_s):
            yield from self._place_after(placed)

    def skip(self, duration_s: float) -> Iterator[Channels]:
        """Put silence in the place of sound that is lost, where no stamp says how much."""
        if not self._stamped and self._n_channels:
            self._clock.skip(duration_s)
            yield from self._fill(Fraction(duration_s))

    def restart(self) -> Iterator[Channels]:
        """Go on with a file that was joined to this one: its stamps start anew."""
        for placed in self._clock.restart():
            yield from self._place_after(placed)

    def finish(self) -> Iterator[Channels]:
        """Yield the last blocks; call once, after the last frame."""
        for placed in self._clock.finish():
            yield from self._place_after(placed)
        self._append(self._resampler.drain())
        yield from self._blocks()
        if self._n_pending:
            yield np.concatenate(self._pending, axis=1)

    def _place_after(self, placed: Placed) -> Iterator[Channels]:
        if placed.gap_s:
            self._n_channels = self._n_channels or placed.frame.layout.nb_channels
            if self._end_s:
                self.gaps.note(self.end_s, placed.gap_s)
            yield from self._fill(Fraction(placed.gap_s))
        yield from self._place(placed.frame)

    def _place(self, frame: AudioFrame) -> Iterator[Channels]:
        rate, n_channels = frame.sample_rate, frame.layout.nb_channels
        if rate != self._rate or n_channels != self._n_channels:
            check_bounds(rate, n_channels)
            if not self._mix and self._n_channels not in (0, n_channels):
                raise UnreadableMedia(
                    "The number of channels changes within the file; it can only be transcribed "
                    "with all channels mixed."
                )
            self._offset_s, self._n_frame_samples = self._end_s, 0
            self._rate, self._n_channels = rate, n_channels
        self._n_frame_samples += frame.samples
        resampled = self._resampler.push(frame)
        if resampled:
            self._append(resampled)
            yield from self._blocks()

    def _fill(self, gap_s: Fraction) -> Iterator[Channels]:
        """Add silence."""
        self._append(self._resampler.drain())
        self._offset_s += gap_s
        missing = round(self._end_s * SAMPLE_RATE) - self.n_samples
        if not self.n_samples:
            self._lead_samples = missing
        n_channels = 1 if self._mix else self._n_channels
        for start in range(0, missing, BLOCK_SAMPLES):
            n_samples = min(BLOCK_SAMPLES, missing - start)
            self._append([np.zeros((n_channels, n_samples), np.int16)])
            yield from self._blocks()

    def _append(self, resampled: list[Channels]) -> None:
        for samples in resampled:
            self._pending.append(samples)
            self._n_pending += samples.shape[1]
            self.n_samples += samples.shape[1]

    def _blocks(self) -> Iterator[Channels]:
        """Yield the blocks that are complete."""
        if self._n_pending >= BLOCK_SAMPLES:
            joined = np.concatenate(self._pending, axis=1)
            n_whole = self._n_pending // BLOCK_SAMPLES
            rest = joined[:, n_whole * BLOCK_SAMPLES :]
            self._pending, self._n_pending = [rest], rest.shape[1]
            for start in range(0, n_whole * BLOCK_SAMPLES, BLOCK_SAMPLES):
                block = joined[:, start : start + BLOCK_SAMPLES]
                if self._stamped:
                    self._recent.push(block)
                yield block
        if self.n_samples > self._max_duration_s * SAMPLE_RATE:
            longest = duration(self._max_duration_s)
            raise AudioTooLong(f"The audio is longer than {longest} (LONGHAND_MAX_DURATION_S).")

    def _repeated_s(self, frames: list[AudioFrame], back_s: float) -> float:
        """Return how many seconds of frames repeat what was heard ``back_s`` ago."""
        self._append(self._resampler.flush())
        return self._recent.repeated_s(self._pending, frames, back_s)
