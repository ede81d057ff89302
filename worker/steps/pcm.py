"""Decoded audio in the object store, in pieces of a fixed length: a chunk is an exact range."""

from uuid import UUID

import numpy as np

from shared.infra.storage import Storage
from shared.speech.audio import Pcm, Samples
from shared.speech.chunks import SAMPLE_RATE, Chunk
from shared.store.objects.keys import pcm_prefix

PIECE_SAMPLES = 120 * SAMPLE_RATE
"""Two minutes, 3.8 MB: the first chunks start early, and the objects are few."""

INLINE_SAMPLES = 30 * SAMPLE_RATE
"""A job's only chunk of at most this length has its audio in its step, not in the object store: a
Whisper's window, 960 kB."""

_BYTES_PER_SAMPLE = 2


class PieceWriter:
    """Writes a stream of a job's audio piece by piece; at most one piece is in memory."""

    def __init__(self, storage: Storage, job_id: UUID, *, channel: int | None = None) -> None:
        """``channel``: the one that this writer stores; None where all were mixed down."""
        self._storage = storage
        self._job_id, self._channel = job_id, channel
        self._pending = bytearray()
        self.stored_samples = 0
        """Samples from the beginning that can be read back."""

    def write(self, block: Pcm) -> None:
        """Append a block of shape (n_samples,).

        Raises:
            StorageUnavailable: a piece could not be stored.
        """
        self._pending += block.astype("<i2", copy=False).tobytes()
        piece_bytes = PIECE_SAMPLES * _BYTES_PER_SAMPLE
        while len(self._pending) >= piece_bytes:
            self._store(piece_bytes)

    def whole(self, start: int, end: int) -> bytes | None:
        """Return samples [start, end) as s16le, or None if any was stored or they are too many."""
        if self.stored_samples or end - start > INLINE_SAMPLES:
            return None
        return bytes(self._pending[start * _BYTES_PER_SAMPLE : end * _BYTES_PER_SAMPLE])

    def finish(self) -> None:
        """Store what is left.

        Raises:
            StorageUnavailable: the piece could not be stored.
        """
        if self._pending:
            self._store(len(self._pending))

    def _store(self, n_bytes: int) -> None:
        key = _piece_key(self._job_id, self._channel, self.stored_samples // PIECE_SAMPLES)
        self._storage.put(key, bytes(self._pending[:n_bytes]))
        del self._pending[:n_bytes]
        self.stored_samples += n_bytes // _BYTES_PER_SAMPLE


def read_pcm(storage: Storage, job_id: UUID, chunk: Chunk) -> Samples:
    """Return a chunk's audio, strides included: shape (chunk.n_samples,), float32 in [-1, 1).

    Raises:
        StorageUnavailable: a piece cannot be read.
    """
    start, pcm = chunk.start, b""
    while start < chunk.end:
        index, offset = divmod(start, PIECE_SAMPLES)
        stop = min(chunk.end - index * PIECE_SAMPLES, PIECE_SAMPLES)
        key = _piece_key(job_id, chunk.channel, index)
        pcm += storage.read(key, offset * _BYTES_PER_SAMPLE, stop * _BYTES_PER_SAMPLE)
        start += stop - offset
    return samples_of(pcm)


def samples_of(pcm: bytes) -> Samples:
    """Return s16le samples as float32 in [-1, 1), shape (n_samples,)."""
    return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768.0


def _piece_key(job_id: UUID, channel: int | None, index: int) -> str:
    folder = "" if channel is None else f"{channel}/"
    return f"{pcm_prefix(job_id)}{folder}{index:05d}.s16le"
