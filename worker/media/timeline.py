"""Decoded frames, resampled to 16 kHz and put where their timestamps say."""

from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import takewhile

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from shared.infra.errors import AudioOutOfBounds, AudioTooLong, UnreadableMedia
from shared.infra.quantities import duration
from shared.speech.chunks import SAMPLE_RATE
from shared.speech.timemap import TimeMap
from worker.media.clock import Clock, Placed
from worker.media.damage import Gaps

BLOCK_SAMPLES = SAMPLE_RATE
"""Length of every block but the last: one second."""

MIN_RATE_HZ, MAX_RATE_HZ, MAX_CHANNELS = 4_000, 384_000, 8
"""What a file may hold."""

_REMEMBERED_BLOCKS = 30
"""So far back a repetition is looked for, in seconds."""
_COMPARED_S = 1.0
_SEARCHED_S = 0.06
"""A repetition may lie so far from where the stamps say."""
_ALIKE = 0.9
"""Least correlation of a repetition with what was heard before."""
_MIN_REPEAT_S = 0.1
"""Shorter repetitions stay: the map says when they are."""
_CANCELLED = 0.1
"""Channels cancel each other out where their sum has less of the loudest one's energy."""
_SILENT_RMS = 1e-3
_RELEASE = 2.0
"""After sound above full scale the gain grows by this factor a second."""

Channels = npt.NDArray[np.int16]
"""Audio of several channels, shape (n_channels, n_samples), at SAMPLE_RATE."""

_Floats = npt.NDArray[np.float32]
"""The same before it is mixed and brought to 16 bits; full scale is 1."""


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
    """Resamples frames, puts them where the file's clock has them, mixes their channels if asked.

    Sound that the file itself holds above full scale is scaled down, not clipped.
    """

    def __init__(self, max_duration_s: float, *, mix: bool, stamped: bool) -> None:
        """Take ``stamped``: whether frames have times of their own; otherwise samples count."""
        self._max_duration_s = max_duration_s
        self._mix = mix
        self._stamped = stamped
        self._clock = Clock(self._repeated_s)
        self._n_channels = 0
        """Channels of the blocks; 0 before the first frame."""
        self._end_s = Fraction(0)
        """Where the next frame should start. Sums of floats would drift, so it is a fraction."""
        self._shape: tuple[str, str, int] | None = None
        self._resampler: AudioResampler | None = None
        self._pending: list[_Floats] = []
        self._n_pending = 0
        self._recent: deque[Channels] = deque(maxlen=_REMEMBERED_BLOCKS)
        self._gain = 1.0
        self.n_samples = 0
        """Samples placed so far, silence included."""
        self._lead_samples = 0
        self.gaps = Gaps()
        self.n_cancelled = 0
        """Blocks in which the channels cancelled each other out, so that the louder one stands."""

    @property
    def audio_s(self) -> float:
        """Length of what was placed, without the silence before the first frame."""
        return (self.n_samples - self._lead_samples) / SAMPLE_RATE

    @property
    def end_s(self) -> float:
        """Where the next frame should start, in seconds of samples."""
        return float(self._end_s)

    @property
    def times(self) -> TimeMap:
        """Where samples lie on the file's clock."""
        return self._clock.times

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
        check_bounds(frame.sample_rate, frame.layout.nb_channels)
        if not self._stamped:
            self._clock.skip(frame.samples / frame.sample_rate)
            yield from self._place(Placed(frame))
            return
        if stamp_s is None and frame.pts is not None and frame.time_base is not None:
            base = frame.time_base
            stamp_s = frame.pts * base.numerator / base.denominator - origin_s
        for placed in self._clock.push(frame, stamp_s):
            yield from self._place(placed)

    def skip(self, duration_s: float) -> Iterator[Channels]:
        """Put silence in the place of sound that is lost, where no stamp says how much."""
        if not self._stamped and self._n_channels:
            self._clock.skip(duration_s)
            yield from self._fill(Fraction(duration_s))

    def restart(self) -> Iterator[Channels]:
        """Go on with a file that was joined to this one: its stamps start anew."""
        for placed in self._clock.restart():
            yield from self._place(placed)

    def finish(self) -> Iterator[Channels]:
        """Yield the last blocks; call once, after the last frame."""
        for placed in self._clock.finish():
            yield from self._place(placed)
        yield from self._drain()
        if self._n_pending:
            yield self._rendered(np.concatenate(self._pending, axis=1))

    def _place(self, placed: Placed) -> Iterator[Channels]:
        frame = placed.frame
        n_channels = frame.layout.nb_channels
        # Two channels may cancel each other out, so ``_mixed`` mixes them. FFmpeg takes channels
        # without a layout for loudspeakers, and drops the third or fourth as a subwoofer's. They
        # are mostly microphones, so ``_mixed`` mixes all alike.
        by_ffmpeg = self._mix and n_channels > 2 and not frame.layout.name.endswith(" channels")
        kept = 1 if by_ffmpeg else n_channels
        if not self._mix and self._n_channels not in (0, n_channels):
            raise UnreadableMedia(
                "The number of channels changes within the file; it can only be transcribed with "
                "all channels mixed."
            )
        if placed.gap_s:
            self._n_channels = self._n_channels or kept
            if self.n_samples:
                self.gaps.note(self.end_s, placed.gap_s)
            yield from self._fill(Fraction(placed.gap_s))
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            yield from self._drain()
            if self._n_channels not in (0, kept):
                self._collapse(kept)
            self._n_channels = kept
            wanted = "flt"
            if shape[0] == "s16" and shape[2] == SAMPLE_RATE and not by_ffmpeg:
                # Frames pass as they are. FFmpeg's resampler would take longer to start than a
                # short file to decode.
                wanted = "s16"
            self._resampler = AudioResampler(wanted, "mono" if by_ffmpeg else None, SAMPLE_RATE)
            self._shape = shape
        assert self._resampler is not None
        self._end_s += Fraction(frame.samples, frame.sample_rate)
        for resampled in self._resampler.resample(frame):
            yield from self._put(_planes(resampled))

    def _drain(self) -> Iterator[Channels]:
        """Empty the resampler, so that everything before ``_end_s`` is placed."""
        if self._resampler is not None:
            for resampled in self._resampler.resample(None):
                yield from self._put(_planes(resampled))
        self._resampler = self._shape = None

    def _fill(self, hole_s: Fraction) -> Iterator[Channels]:
        yield from self._drain()
        self._end_s += hole_s
        missing = round(self._end_s * SAMPLE_RATE) - self.n_samples
        if not self.n_samples:
            self._lead_samples = missing
        for start in range(0, missing, BLOCK_SAMPLES):
            n_samples = min(BLOCK_SAMPLES, missing - start)
            yield from self._put(np.zeros((self._n_channels, n_samples), np.float32))

    def _put(self, samples: _Floats) -> Iterator[Channels]:
        self._pending.append(samples)
        self._n_pending += samples.shape[1]
        self.n_samples += samples.shape[1]
        if self._n_pending >= BLOCK_SAMPLES:
            joined = np.concatenate(self._pending, axis=1)
            n_whole = self._n_pending // BLOCK_SAMPLES
            rest = joined[:, n_whole * BLOCK_SAMPLES :]
            self._pending, self._n_pending = [rest], rest.shape[1]
            for start in range(0, n_whole * BLOCK_SAMPLES, BLOCK_SAMPLES):
                yield self._rendered(joined[:, start : start + BLOCK_SAMPLES])
        if self.n_samples > self._max_duration_s * SAMPLE_RATE:
            longest = duration(self._max_duration_s)
            raise AudioTooLong(f"The audio is longer than {longest} (LONGHAND_MAX_DURATION_S).")

    def _collapse(self, n_channels: int) -> None:
        """Mix what is pending, as the channels to come are others."""
        if self._n_pending:
            mixed = self._mixed(np.concatenate(self._pending, axis=1))
            self._pending = [np.repeat(mixed, n_channels, axis=0)]

    def _rendered(self, samples: _Floats) -> Channels:
        """Return a block as it is stored: mixed if asked to, and within full scale."""
        if self._mix:
            samples = self._mixed(samples)
        peak = float(np.abs(samples).max(initial=0.0))
        if not np.isfinite(peak):
            samples = np.nan_to_num(samples, posinf=0.0, neginf=0.0)
            peak = float(np.abs(samples).max(initial=0.0))
        self._gain = min(1.0, self._gain * _RELEASE)
        if peak * self._gain > 1.0:
            self._gain = 1.0 / peak
        scaled = np.rint(samples * np.float32(self._gain * 32768))
        block = np.asarray(scaled.clip(-32768, 32767), np.int16)
        if self._stamped:
            self._recent.append(block)
        return block

    def _mixed(self, samples: _Floats) -> _Floats:
        """Return the mean of the channels, or the loudest one where they cancel each other out."""
        if len(samples) == 1:
            return samples
        total = samples[:1] + samples[1:2] if len(samples) == 2 else samples.sum(0, keepdims=True)
        energies = np.array([np.dot(channel, channel) for channel in samples])
        if float(energies.max()) * _CANCELLED > float(np.dot(total[0], total[0])):
            self.n_cancelled += 1
            loudest = int(energies.argmax())
            return samples[loudest : loudest + 1]
        return np.asarray(total / len(samples), np.float32)

    def _repeated_s(self, frames: list[AudioFrame], back_s: float) -> float:
        """Return how many seconds of frames repeat what was heard ``back_s`` ago; 0: they do not.

        Only sound counts: silence is like all silence.
        """
        if back_s < _MIN_REPEAT_S - _SEARCHED_S or not (self._recent or self._pending):
            return 0.0
        heard = _mono([*(block / np.float32(32768) for block in self._recent), *self._pending])
        again = _mono(_resampled(frames))[: round(min(back_s, _COMPARED_S) * SAMPLE_RATE)]
        search = round(_SEARCHED_S * SAMPLE_RATE)
        first = len(heard) - round(back_s * SAMPLE_RATE) - search
        part = heard[max(0, first) : first + len(again) + 2 * search]
        if first < -search or len(part) < len(again) or not len(again):
            return 0.0
        products = np.correlate(part, again, "valid")
        sums = np.cumsum(np.concatenate([[0.0], np.square(part, dtype=np.float64)]))
        energies = sums[len(again) :] - sums[: -len(again)]
        own = float(np.square(again, dtype=np.float64).sum())
        if own < len(again) * _SILENT_RMS**2:
            return 0.0
        alike = products / np.sqrt(np.maximum(energies * own, 1e-12))
        best = int(alike.argmax())
        repeated_s = (len(heard) - max(0, first) - best) / SAMPLE_RATE
        return repeated_s if alike[best] >= _ALIKE and repeated_s >= _MIN_REPEAT_S else 0.0


def _planes(frame: AudioFrame) -> _Floats:
    """Return floats as (n_channels, n_samples).

    Those of many channels are interleaved, as PyAV 18 reads beyond the last of 8 planes.
    """
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.int16:
        return np.asarray(samples / np.float32(32768), np.float32)
    return np.asarray(samples, np.float32)


def _resampled(frames: list[AudioFrame]) -> list[_Floats]:
    """Return frames of one shape at our rate; those of another shape after them are left out."""
    shape = (frames[0].format.name, frames[0].layout.name, frames[0].sample_rate)
    alike = takewhile(lambda f: (f.format.name, f.layout.name, f.sample_rate) == shape, frames)
    resampler = AudioResampler("flt", None, SAMPLE_RATE)
    return [_planes(out) for frame in alike for out in resampler.resample(frame)]


def _mono(parts: Sequence[npt.NDArray[np.floating]]) -> _Floats:
    """Return the mean of all channels, part after part, shape (n_samples,)."""
    return np.concatenate([np.zeros(0, np.float32), *(p.mean(axis=0) for p in parts)]).astype(
        np.float32
    )
