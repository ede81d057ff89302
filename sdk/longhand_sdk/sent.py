"""What a client has sent of a live session and the server has not acknowledged.

The plugins for LiveKit and Pipecat have this file, too, by a link: it needs nothing of Longhand.
"""

from collections import deque
from collections.abc import Iterator

SAMPLE_RATE = 16_000
BYTES_PER_SAMPLE = 2
LIMIT_S = 35.0
"""A segment has at most 30 s; its final may come a little later."""


class Flush:
    """Stands for a flush among the audio that is sent again."""


class Unacknowledged:
    """The latest audio of a stream, with the flushes in it: what a new connection gets first.

    Positions are samples from the stream's first one. At most ``limit_s`` seconds are kept; what is
    older is given up.
    """

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_bytes = round(limit_s * SAMPLE_RATE) * BYTES_PER_SAMPLE
        self._pcm = bytearray()
        self._flushes: deque[int] = deque()
        self.start = 0
        """Position of the first sample kept."""

    @property
    def end(self) -> int:
        """Position behind the last sample."""
        return self.start + len(self._pcm) // BYTES_PER_SAMPLE

    def append(self, pcm: bytes) -> None:
        """Add audio: s16le, mono, at SAMPLE_RATE."""
        self._pcm += pcm
        self._drop(len(self._pcm) - self._limit_bytes)

    def append_flush(self) -> None:
        """Add a flush behind the last sample."""
        self._flushes.append(self.end)

    def acknowledge(self, position: int) -> None:
        """Forget the audio before ``position``, which has its text."""
        self._drop((position - self.start) * BYTES_PER_SAMPLE)

    def acknowledge_flush(self) -> None:
        """Forget the oldest flush, which has its answer."""
        if self._flushes:
            self._flushes.popleft()

    def replay(self, piece_samples: int) -> Iterator[bytes | Flush]:
        """Yield what is kept, in order: pieces of audio and the flushes between them."""
        position = self.start
        for stop, is_flush in [*((flush, True) for flush in self._flushes), (self.end, False)]:
            while position < stop:
                piece_end = min(position + piece_samples, stop)
                first = (position - self.start) * BYTES_PER_SAMPLE
                yield bytes(self._pcm[first : (piece_end - self.start) * BYTES_PER_SAMPLE])
                position = piece_end
            if is_flush:
                yield Flush()

    def resume(self, position: int, piece_samples: int) -> Iterator[bytes | Flush]:
        """Yield what a session needs that goes on at ``position``: silence for what is given up."""
        n_lost = self.start - position
        for start in range(0, n_lost, piece_samples):
            yield bytes(BYTES_PER_SAMPLE * min(piece_samples, n_lost - start))
        self.acknowledge(position)
        yield from self.replay(piece_samples)

    def _drop(self, n_bytes: int) -> None:
        n_bytes = min(max(n_bytes, 0), len(self._pcm))
        del self._pcm[:n_bytes]
        self.start += n_bytes // BYTES_PER_SAMPLE
