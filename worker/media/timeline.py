"""Decoded frames, resampled to 16 kHz and put where their timestamps say."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from shared.infra.errors import AudioOutOfBounds, AudioTooLong, UnreadableMedia
from shared.infra.quantities import duration
from shared.speech.chunks import SAMPLE_RATE

BLOCK_SAMPLES = SAMPLE_RATE
"""Length of every block but the last: one second."""

MIN_RATE_HZ, MAX_RATE_HZ, MAX_CHANNELS = 4_000, 384_000, 8
"""What a file may hold."""

_HOLE_S = 0.1
"""Timestamps that are off by less are jitter: Matroska rounds to milliseconds, recorders more."""
_MAX_HOLE_S = 3600
"""A longer jump is a broken clock (MPEG-TS wraps after 26.5 hours), not an hour of silence."""

Channels = npt.NDArray[np.int16]
"""Audio of several channels, shape (n_channels, n_samples), at SAMPLE_RATE."""


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
    """Resamples frames, mixes their channels if asked to, and fills holes with silence."""

    def __init__(self, origin_s: Fraction, max_duration_s: float, *, mix: bool) -> None:
        """``origin_s``: the timestamp of sample 0; ``mix``: mix all channels down to one."""
        self._origin_s = origin_s
        self._max_duration_s = max_duration_s
        self._mix = mix
        self._n_channels = 1 if mix else 0
        """Channels of the blocks; 0 before the first frame."""
        self._end_s = Fraction(0)
        """Where the next frame should start. Sums of floats would drift, so it is a fraction."""
        self._shape: tuple[str, str, int] | None = None
        self._resampler: AudioResampler | None = None
        self._pending: list[Channels] = []
        self._n_pending = 0
        self.n_samples = 0
        """Samples placed so far, silence included."""
        self._lead_samples = 0

    @property
    def audio_s(self) -> float:
        """Length of what was placed, without the silence before the first frame."""
        return (self.n_samples - self._lead_samples) / SAMPLE_RATE

    def place(self, frame: AudioFrame) -> Iterator[Channels]:
        """Take the next frame and yield the blocks that are complete.

        Raises:
            UnreadableMedia: the number of channels changes, and they are not mixed.
            AudioOutOfBounds: the frame's sample rate or channel count is outside the limits.
            AudioTooLong: more than ``max_duration_s`` has been yielded.
        """
        self._n_channels = self._n_channels or frame.layout.nb_channels
        if not self._mix and frame.layout.nb_channels != self._n_channels:
            raise UnreadableMedia(
                "The number of channels changes within the file; it can only be transcribed with "
                "all channels mixed."
            )
        if frame.pts is not None and frame.time_base is not None:
            hole_s = frame.pts * frame.time_base - self._origin_s - self._end_s
            if _HOLE_S < hole_s <= _MAX_HOLE_S:
                yield from self._fill(hole_s)
            elif abs(hole_s) > _HOLE_S:
                # The clock jumped, or ran backwards: the frame follows the one before it.
                self._origin_s += hole_s
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            yield from self._drain()
            check_bounds(frame.sample_rate, frame.layout.nb_channels)
            # FFmpeg takes channels without a layout for loudspeakers, and drops the third or fourth
            # as a subwoofer's. They are mostly microphones, so ``_channels`` mixes all alike.
            unnamed = frame.layout.nb_channels > 2 and frame.layout.name.endswith(" channels")
            layout = "mono" if self._mix and not unnamed else None
            self._resampler = AudioResampler("s16", layout, SAMPLE_RATE)
            self._shape = shape
        assert self._resampler is not None
        self._end_s += Fraction(frame.samples, frame.sample_rate)
        for resampled in self._resampler.resample(frame):
            yield from self._put(self._channels(resampled))

    def finish(self) -> Iterator[Channels]:
        """Yield the last blocks; call once, after the last frame."""
        yield from self._drain()
        if self._n_pending:
            yield np.concatenate(self._pending, axis=1)

    def _drain(self) -> Iterator[Channels]:
        """Empty the resampler, so that everything before ``_end_s`` is placed."""
        if self._resampler is not None:
            for resampled in self._resampler.resample(None):
                yield from self._put(self._channels(resampled))
        self._resampler = self._shape = None

    def _fill(self, hole_s: Fraction) -> Iterator[Channels]:
        yield from self._drain()
        self._end_s += hole_s
        missing = round(self._end_s * SAMPLE_RATE) - self.n_samples
        if not self.n_samples:
            self._lead_samples = missing
        for start in range(0, missing, BLOCK_SAMPLES):
            n_samples = min(BLOCK_SAMPLES, missing - start)
            yield from self._put(np.zeros((self._n_channels, n_samples), np.int16))

    def _put(self, samples: Channels) -> Iterator[Channels]:
        self._pending.append(samples)
        self._n_pending += samples.shape[1]
        self.n_samples += samples.shape[1]
        if self._n_pending >= BLOCK_SAMPLES:
            joined = np.concatenate(self._pending, axis=1)
            n_whole = self._n_pending // BLOCK_SAMPLES
            rest = joined[:, n_whole * BLOCK_SAMPLES :]
            self._pending, self._n_pending = [rest], rest.shape[1]
            for start in range(0, n_whole * BLOCK_SAMPLES, BLOCK_SAMPLES):
                yield joined[:, start : start + BLOCK_SAMPLES]
        if self.n_samples > self._max_duration_s * SAMPLE_RATE:
            longest = duration(self._max_duration_s)
            raise AudioTooLong(f"The audio is longer than {longest} (LONGHAND_MAX_DURATION_S).")

    def _channels(self, frame: AudioFrame) -> Channels:
        """Return interleaved s16 as (n_channels, n_samples), mixed down if asked to.

        The resampler's format is not planar, as PyAV 18 reads beyond the last of 8 planes.
        """
        channels = frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T
        if self._mix and len(channels) > 1:
            channels = np.rint(channels.mean(axis=0, keepdims=True))
        return np.asarray(channels, np.int16)
