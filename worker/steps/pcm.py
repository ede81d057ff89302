"""The audio of a job's chunks in the object store, in pieces of a fixed length.

Only chunks are stored, one after another: what no chunk hears, such as silence, takes no space.
``Chunk.stored_at`` says where in the stored audio a chunk begins. Neighbours that overlap in the
recording overlap in the store as well, so a chunk is one exact range.
"""

from uuid import UUID

import numpy as np

from shared.infra.storage import Storage
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm, Samples
from shared.speech.chunks.chunk import Chunk
from shared.speech.speakers.spans import SpeakerSpan
from shared.store.objects.keys import pcm_prefix

PIECE_SAMPLES = 120 * SAMPLE_RATE
"""Two minutes, 3.8 MB: the first chunks start early, and the objects are few. A piece is shorter if
no more of two minutes of the recording is heard; the next one begins where it would have ended."""

INLINE_SAMPLES = 30 * SAMPLE_RATE
"""A job's only chunk of at most this length has its audio in its step, not in the object store: a
Whisper's window, 960 kB."""

BYTES_PER_SAMPLE = 2
"""Of s16le."""


class PieceWriter:
    """Stores the chunks of one stream of a job's audio, piece by piece.

    Memory is bounded: one piece, and the audio of which it is not known yet whether a chunk hears
    it (``forget_before``).
    """

    def __init__(self, storage: Storage, job_id: UUID, *, channel: int | None = None) -> None:
        """``channel``: the one that this writer stores; None where all were mixed down."""
        self._storage = storage
        self._job_id, self._channel = job_id, channel
        self._recent = bytearray()
        """The audio from sample ``_first`` on."""
        self._first = 0
        self._kept_until = 0
        """Where in the recording the last chunk ends."""
        self._pending = bytearray()
        """Audio of chunks that fills no piece yet."""
        self._pending_from = 0
        """Where in the recording it starts, or what was pending before."""
        self.kept_samples = 0
        """Samples of all chunks; those that two of them share count once."""
        self.stored_samples = 0
        """Where in the stored audio the next piece begins; all before can be read back."""

    def write(self, block: Pcm) -> None:
        """Take the next samples of the recording, shape (n_samples,)."""
        self._recent += block.astype("<i2", copy=False).tobytes()

    def keep(self, chunk: Chunk) -> int:
        """Store a chunk, all of whose samples were written; return its ``stored_at``.

        Chunks come in the order of their starts and of their ends.

        Raises:
            StorageUnavailable: a piece could not be stored.
        """
        new_from = max(chunk.start, self._kept_until)
        if not self._pending:
            self._pending_from = new_from
        end = self.stored_samples + len(self._pending) // BYTES_PER_SAMPLE
        first, last = (BYTES_PER_SAMPLE * (at - self._first) for at in (new_from, chunk.end))
        self._pending += self._recent[first:last]
        self._kept_until = chunk.end
        self.kept_samples += chunk.end - new_from
        while len(self._pending) >= PIECE_SAMPLES * BYTES_PER_SAMPLE:
            self._store(PIECE_SAMPLES * BYTES_PER_SAMPLE)
        return end - (new_from - chunk.start)

    def forget_before(self, sample: int) -> None:
        """Drop audio before ``sample``: no chunk to come starts there.

        Raises:
            StorageUnavailable: a piece could not be stored.
        """
        # A chunk that overlaps the last one is to follow it in the store, too.
        if self._kept_until <= sample and sample - self._pending_from >= PIECE_SAMPLES:
            self.finish()
        n_old = max(0, min(sample - self._first, len(self._recent) // BYTES_PER_SAMPLE))
        del self._recent[: n_old * BYTES_PER_SAMPLE]
        self._first += n_old

    def whole(self, chunk: Chunk) -> bytes | None:
        """Return a chunk that was kept, or None if any was stored or it is too long."""
        if self.stored_samples or chunk.n_samples > INLINE_SAMPLES:
            return None
        first, last = chunk.stored_at, chunk.stored_at + chunk.n_samples
        return bytes(self._pending[first * BYTES_PER_SAMPLE : last * BYTES_PER_SAMPLE])

    def finish(self) -> None:
        """Store what is pending.

        Raises:
            StorageUnavailable: the piece could not be stored.
        """
        if self._pending:
            self._store(len(self._pending))

    def _store(self, n_bytes: int) -> None:
        key = _piece_key(self._job_id, self._channel, self.stored_samples // PIECE_SAMPLES)
        self._storage.put(key, bytes(self._pending[:n_bytes]))
        del self._pending[:n_bytes]
        self._pending_from += n_bytes // BYTES_PER_SAMPLE
        self.stored_samples += PIECE_SAMPLES


def read_pcm(storage: Storage, job_id: UUID, chunk: Chunk) -> Samples:
    """Return a chunk's audio, strides included: shape (chunk.n_samples,), float32 in [-1, 1).

    Raises:
        StorageUnavailable: a piece cannot be read.
    """
    return _read(storage, job_id, chunk.channel, chunk.stored_at, chunk.n_samples)


def read_span(storage: Storage, job_id: UUID, span: SpeakerSpan) -> Samples:
    """Return a span's audio, its context included, with silence where nothing is stored.

    Raises:
        StorageUnavailable: a piece cannot be read.
    """
    audio = np.zeros(span.end - span.start, np.float32)
    for start, end, stored_at in span.stretches:
        read = _read(storage, job_id, None, stored_at, min(end, span.end) - start)
        audio[start - span.start : start - span.start + len(read)] = read
    return audio


def _read(
    storage: Storage, job_id: UUID, channel: int | None, stored_at: int, n_samples: int
) -> Samples:
    start, end = stored_at, stored_at + n_samples
    pcm = b""
    while start < end:
        index, offset = divmod(start, PIECE_SAMPLES)
        stop = min(end - index * PIECE_SAMPLES, PIECE_SAMPLES)
        key = _piece_key(job_id, channel, index)
        pcm += storage.read(key, offset * BYTES_PER_SAMPLE, stop * BYTES_PER_SAMPLE)
        start += stop - offset
    return samples_of(pcm)


def samples_of(pcm: bytes) -> Samples:
    """Return s16le samples as float32 in [-1, 1), shape (n_samples,)."""
    return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768.0


def _piece_key(job_id: UUID, channel: int | None, index: int) -> str:
    folder = "" if channel is None else f"{channel}/"
    return f"{pcm_prefix(job_id)}{folder}{index:05d}.s16le"
