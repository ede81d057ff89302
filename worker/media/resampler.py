"""Decoded frames in any format, mixed down if asked and resampled to 16-bit samples at 16 kHz.

Short frames are joined first: FFmpeg takes about as long to take and return a frame as to resample
it.
"""

import math

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Channels

_DTYPES: dict[str, npt.DTypeLike] = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "flt": np.float32,
}
_READABLE = frozenset(_DTYPES) | {f"{name}p" for name in _DTYPES}
"""Sample formats that are read as they are. Others are converted to ``flt`` first."""
_READABLE_PLANES = 7
"""PyAV 18 reads beyond the last of 8 planes."""
_JOINED_SAMPLES, _JOINED_S = 8_192, 0.35
"""Frames are joined until they have so many samples and last so long: each call costs something,
and a piece should still fit a processor's cache."""
_CANCELLED = 0.1
"""Channels cancel each other out where their sum has less than this share of the loudest one's
energy."""
_ENERGY_STEP = 61
"""Energies are compared on every 61st sample, which is enough to tell a cancelled mix."""
_MEAN = {"rematrix_maxval": "1"}
"""Has FFmpeg scale a mix of floats as it does one of integers: not above the loudest channel."""
_RELEASE = 2.0
"""After sound above full scale the gain grows by this factor a second."""

_Samples = npt.NDArray[np.integer | np.floating]
_Floats = npt.NDArray[np.float32]
"""Full scale is 1."""


class Resampler:
    """Resamples a stream of frames; their format, rate and channels may change.

    Sound that the file holds above full scale is scaled down, not clipped.
    """

    def __init__(self, *, mix: bool) -> None:
        """Mix all channels down to one if ``mix``."""
        self._mix = mix
        self._shape: tuple[str, str, int] | None = None
        self._format, self._n_channels, self._rate = "", 0, 0
        self._layout: AudioLayout | None = None
        self._to_floats: AudioResampler | None = None
        self._resampler: AudioResampler | None = None
        self._may_cancel = False
        self._is_mixed_here = False
        self._held: list[AudioFrame] = []
        self._n_held = 0
        self._gain = 1.0
        self.cancelled_s = 0.0
        """Length of the sound whose channels cancel each other out."""

    def push(self, frame: AudioFrame) -> list[Channels]:
        """Take a frame; return what is complete."""
        if not frame.samples:
            return []
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        finished: list[Channels] = []
        if shape != self._shape:
            finished = self.drain()
            self._begin(frame)
            self._shape = shape
        self._held += [frame] if self._to_floats is None else self._to_floats.resample(frame)
        self._n_held += frame.samples
        is_enough = self._n_held >= max(_JOINED_SAMPLES, _JOINED_S * frame.sample_rate)
        return finished + self.flush() if is_enough else finished

    def flush(self) -> list[Channels]:
        """Return what was taken, but for the few samples that the filter needs to go on."""
        if not self._held:
            return []
        held, self._held, self._n_held = self._held, [], 0
        frame = held[0] if len(held) == 1 and not self._may_cancel else self._joined(held)
        return self._resampled(frame)

    def drain(self) -> list[Channels]:
        """Return all that was taken; the next frame starts anew."""
        finished = self.flush()
        if self._resampler is not None:
            finished += self._resampled(None)
        self._shape = self._resampler = self._to_floats = None
        return finished

    def _begin(self, frame: AudioFrame) -> None:
        """Prepare for frames of this shape."""
        n_channels = frame.layout.nb_channels
        is_readable = frame.format.name in _READABLE
        if frame.format.is_planar and n_channels > _READABLE_PLANES:
            is_readable = False
        self._to_floats = None if is_readable else AudioResampler("flt")
        self._format = frame.format.name if is_readable else "flt"
        self._layout, self._n_channels, self._rate = frame.layout, n_channels, frame.sample_rate
        # FFmpeg mixes named loudspeakers by their places. It takes channels without names for
        # loudspeakers and drops the third or fourth as a subwoofer's, but they are mostly
        # microphones: all of these count alike.
        is_named = not frame.layout.name.endswith(" channels")
        by_ffmpeg = self._mix and (n_channels == 2 or (n_channels > 2 and is_named))
        self._is_mixed_here = self._mix and n_channels > 2 and not is_named
        self._may_cancel = self._is_mixed_here or (self._mix and n_channels == 2)
        self._resampler = None
        if by_ffmpeg or frame.sample_rate != SAMPLE_RATE:
            # Integers are never above full scale, and resampled faster.
            form = "s16" if self._format[0] in "us" else "flt"
            layout, options = ("mono", _MEAN) if by_ffmpeg else (None, None)
            self._resampler = AudioResampler(form, layout, SAMPLE_RATE, options=options)

    def _joined(self, frames: list[AudioFrame]) -> AudioFrame:
        """Return the samples of frames of this shape as one frame.

        Channels that cancel each other out are replaced by the loudest one. Those that FFmpeg would
        mix wrongly are mixed.
        """
        is_planar = self._format.endswith("p")
        parts = [frame.to_ndarray() if is_planar else self._view(frame) for frame in frames]
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        channels = joined if is_planar else joined.reshape(-1, self._n_channels).T
        form, layout = self._format, self._layout
        loudest = self._loudest_of_cancelled(channels) if self._may_cancel else None
        if self._is_mixed_here:
            floats = _floats(channels if loudest is None else channels[loudest : loudest + 1])
            joined = _mean(floats)[np.newaxis]
            form, layout = "fltp", AudioLayout("mono")
        elif loudest is not None:
            same = np.repeat(channels[loudest : loudest + 1], len(channels), axis=0)
            joined = same if is_planar else same.T.reshape(1, -1)
        elif len(frames) == 1:
            return frames[0]
        assert layout is not None
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(joined), form, layout)  # type: ignore[arg-type]
        frame.sample_rate = self._rate
        return frame

    def _view(self, frame: AudioFrame) -> _Samples:
        """Return the samples of a frame whose channels are interleaved, shape (1, n), uncopied."""
        count = frame.samples * self._n_channels
        view = memoryview(frame.planes[0])
        return np.frombuffer(view, _DTYPES[self._format], count)[np.newaxis]

    def _resampled(self, frame: AudioFrame | None) -> list[Channels]:
        """Resample a frame, or what the filter still holds."""
        if self._resampler is not None:
            frames = self._resampler.resample(frame)
        else:
            frames = [] if frame is None else [frame]
        return [self._finished(_channels(each)) for each in frames]

    def _loudest_of_cancelled(self, channels: _Samples) -> int | None:
        """Return the number of the loudest channel if the channels cancel each other out."""
        some = _floats(channels[:, ::_ENERGY_STEP])
        products = np.dot(some, some.T)  # sums to the energy of the channels' sum
        energies = products.diagonal()
        if not energies.max() * _CANCELLED > products.sum():  # also if one is no number
            return None
        self.cancelled_s += channels.shape[1] / self._rate
        return int(np.argmax(energies))

    def _finished(self, samples: _Samples) -> Channels:
        """Return samples as 16 bits, within full scale."""
        if samples.dtype == np.int16:
            return np.asarray(samples, np.int16)
        floats = _floats(samples)
        peak = _peak(floats)
        if not math.isfinite(peak):
            floats = np.nan_to_num(floats, posinf=0.0, neginf=0.0)
            peak = _peak(floats)
        self._gain = min(1.0, self._gain * _RELEASE ** (floats.shape[1] / SAMPLE_RATE))
        if peak * self._gain > 1.0:
            self._gain = 1.0 / peak
        scaled = floats * np.float32(self._gain * 32768)
        np.rint(scaled, out=scaled)
        np.minimum(scaled, 32767, out=scaled)  # full scale itself has no positive value
        return scaled.astype(np.int16)


def _floats(samples: _Samples) -> _Floats:
    """Return samples of any readable format as floats; full scale is 1."""
    if samples.dtype == np.int16:
        return np.asarray(samples * np.float32(1 / 32768), np.float32)
    if samples.dtype == np.int32:
        return np.asarray(samples.astype(np.float32) * np.float32(1 / (1 << 31)), np.float32)
    if samples.dtype == np.uint8:
        return np.asarray((samples.astype(np.float32) - 128) / 128, np.float32)
    return np.asarray(samples, np.float32)


def _channels(frame: AudioFrame) -> _Samples:
    """Return a frame's samples as (n_channels, n_samples)."""
    samples = frame.to_ndarray()
    return samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T


def _mean(channels: _Floats) -> _Floats:
    """Return the mean of channels, shape (n_samples,).

    ``numpy.mean`` is slow where channels are interleaved, and BLAS starts threads.
    """
    total = np.array(channels[0], np.float32)
    for channel in channels[1:]:
        total += channel
    total *= np.float32(1 / len(channels))
    return total


def _peak(samples: _Floats) -> float:
    return max(float(samples.max(initial=0.0)), -float(samples.min(initial=0.0)))
