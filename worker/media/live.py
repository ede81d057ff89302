"""A decoder of live audio: a stream comes in over a socket, and records go out.

What a hostile stream does to FFmpeg ends one session.
"""

import socket
import traceback
from collections.abc import Mapping
from typing import Any

import av
from av.audio.resampler import AudioResampler

from shared.speech.chunks import SAMPLE_RATE
from shared.speech.decoded import COUNT, Kind, encode_record
from worker.media.sandbox.confinement import allow_cpu, allow_memory

MEMORY_BYTES = 128 << 20
"""Most memory of a child's own."""
STEP_CPU_S = 10
"""Most processor time that a child takes from one read of the stream to the next."""
MAX_SILENT_BYTES = 1 << 20
"""Most bytes of a stream without any audio in them."""
_READ_BYTES = 1 << 15
_MAX_TRACEBACK_BYTES = 8_000
_CODECS = ("opus", "libopus")


class UnreadableStream(Exception):
    """The stream is not WebM with Opus; the text is for its sender."""


class _Stream:
    """The stream as a file for FFmpeg; it says what is consumed whenever FFmpeg wants more.

    FFmpeg may try again after an error, so an error is the file's end; ``check`` raises it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._n_read = 0
        self._n_silent = 0
        self._is_at_end = False
        self._failure: OSError | UnreadableStream | None = None

    def read(self, n_bytes: int) -> bytes:
        if self._is_at_end:
            return b""
        try:
            data = self._receive(n_bytes)
        except (OSError, UnreadableStream) as error:
            self._failure = error
            data = b""
        self._is_at_end = not data
        return data

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come."""
        return not self._n_read

    def check(self) -> None:
        """Raise the error that has ended the stream, if there was one."""
        if self._failure is not None:
            raise self._failure

    def _receive(self, n_bytes: int) -> bytes:
        allow_cpu(STEP_CPU_S)
        self.tell(Kind.CONSUMED, COUNT.pack(self._n_read))
        if self._n_silent > MAX_SILENT_BYTES:
            raise UnreadableStream("There is no audio in the stream.")
        data = self._connection.recv(min(n_bytes, _READ_BYTES))
        self._n_read += len(data)
        self._n_silent += len(data)
        return data

    def tell_audio(self, pcm: bytes) -> None:
        self._n_silent = 0
        self.tell(Kind.PCM, pcm)

    def tell(self, kind: Kind, data: bytes = b"") -> None:
        self._connection.sendall(encode_record(kind, data))


def decode_stream(connection: socket.socket, order: Mapping[str, Any]) -> None:  # noqa: ARG001
    """Decode the stream that comes in, up to its end. An order says nothing of it.

    Raises:
        OSError: nobody reads what is decoded.
    """
    allow_memory(MEMORY_BYTES)
    stream = _Stream(connection)
    try:
        try:
            _decode(stream)
        except (av.FFmpegError, MemoryError, ValueError) as error:
            stream.check()
            if stream.is_empty:
                stream.tell(Kind.END)
                return
            raise UnreadableStream("The stream is not WebM with Opus, or it is damaged.") from error
        stream.check()
    except UnreadableStream as error:
        stream.tell(Kind.UNREADABLE, str(error).encode())
        # A socket that is closed while the other side writes may lose what it was to read.
        while connection.recv(_READ_BYTES):
            pass
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - a bug, which the API process logs
        stream.tell(Kind.BUG, traceback.format_exc().encode()[-_MAX_TRACEBACK_BYTES:])
    else:
        stream.tell(Kind.END)


def _decode(stream: _Stream) -> None:
    options = {
        "format_whitelist": "matroska,webm",
        "codec_whitelist": ",".join(_CODECS),
        "protocol_whitelist": "none",  # no protocol has this name: only the stream can be read
    }
    with av.open(
        stream,
        "r",
        format="webm",
        options=options,
        buffer_size=_READ_BYTES,
        metadata_errors="replace",
    ) as container:
        sound = next(iter(container.streams.audio), None)
        # A stream of a codec that FFmpeg does not know has no context.
        if sound is None or sound.codec_context is None or sound.codec_context.name not in _CODECS:
            raise UnreadableStream("There is no Opus in the stream.")
        resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        for packet in container.demux(sound):
            for frame in packet.decode():
                _resample(resampler, frame, stream)
        _resample(resampler, None, stream)


def _resample(resampler: AudioResampler, frame: av.AudioFrame | None, stream: _Stream) -> None:
    for resampled in resampler.resample(frame):
        # The plane is longer than its samples, by padding.
        stream.tell_audio(bytes(resampled.planes[0])[: 2 * resampled.samples])
