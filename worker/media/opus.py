"""Samples in, Ogg with Opus out: what browsers play, at a size for speech."""

import io
from collections.abc import Callable

import av
import numpy as np

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm

BIT_RATE = 32_000
_SILENCE_SAMPLES = 10 * SAMPLE_RATE
"""Silence is written in pieces of this length."""


class OpusWriter:
    """Encodes mono samples, and hands the file over in pieces."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """Begin; ``write`` is called with each piece of the file, in order."""
        self.n_samples = 0
        """Written so far."""
        self._container = av.open(_Sink(write), "w", format="ogg")
        self._stream = self._container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        self._stream.bit_rate = BIT_RATE

    def write(self, samples: Pcm) -> None:
        """Append samples, shape (n_samples,)."""
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = self.n_samples
        self.n_samples += len(samples)
        self._container.mux(self._stream.encode(frame))

    def silence(self, n_samples: int) -> None:
        """Append silence."""
        while n_samples > 0:
            piece = min(n_samples, _SILENCE_SAMPLES)
            self.write(np.zeros(piece, np.int16))
            n_samples -= piece

    def close(self) -> None:
        """Write the end of the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


class _Sink(io.RawIOBase):
    """A file that can only be appended to."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, data: "memoryview | bytes") -> int:  # type: ignore[override]
        self._write(bytes(data))
        return len(data)
