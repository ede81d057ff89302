"""The audio of a session that may still be needed."""

import numpy as np

from shared.speech.audio.samples import Pcm

_SAMPLE_BYTES = 2


class AudioRing:
    """Samples of a stream by their positions; what lies before a moving point is forgotten."""

    def __init__(self, start: int = 0) -> None:
        """Begin at a position; there is nothing before it."""
        self._bytes = bytearray()
        self._start = start
        self._odd = b""

    @property
    def end(self) -> int:
        """Where the next sample goes."""
        return self._start + len(self._bytes) // _SAMPLE_BYTES

    def append(self, pcm: bytes) -> None:
        """Take s16le bytes; half a sample waits for its other half."""
        data = self._odd + pcm if self._odd else pcm
        whole = len(data) // _SAMPLE_BYTES * _SAMPLE_BYTES
        self._bytes += data[:whole]
        self._odd = data[whole:]

    def cut(self, start: int, end: int) -> bytes:
        """Return samples [start, end), which are not forgotten, as s16le."""
        assert self._start <= start <= end <= self.end
        first, last = ((at - self._start) * _SAMPLE_BYTES for at in (start, end))
        return bytes(self._bytes[first:last])

    def samples(self, start: int, end: int) -> Pcm:
        """Return a copy of samples [start, end), shape (end - start,)."""
        return np.frombuffer(self.cut(start, end), "<i2").astype(np.int16, copy=False)

    def forget(self, before: int) -> None:
        """Drop the samples before a position."""
        n_samples = min(before, self.end) - self._start
        if n_samples > 0:
            del self._bytes[: n_samples * _SAMPLE_BYTES]
            self._start += n_samples
