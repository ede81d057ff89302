"""A decoder of live audio: a stream comes in over a socket, and records go out.

What a hostile stream does to FFmpeg ends one session.
"""

import socket
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import av
from av.audio.resampler import AudioResampler

from shared.speech.audio.decoded import COUNT, Kind, encode_record
from shared.speech.audio.rate import SAMPLE_RATE
from worker.media.sandbox.confinement import allow_cpu, allow_memory
from worker.media.wav_stream import read_head

MEMORY_BYTES = 128 << 20
"""Most memory of a child's own."""
STEP_CPU_S = 10
"""Most processor time that a child takes from one read of the stream to the next."""
MAX_SILENT_BYTES = 1 << 20
"""Most bytes of a stream without any audio in them."""
_READ_BYTES = 1 << 15
_MAX_TRACEBACK_BYTES = 8_000


@dataclass(frozen=True, slots=True)
class _Format:
    """What a stream may be."""

    names: str
    """For people."""
    demuxers: tuple[str, ...]
    """FFmpeg's names."""
    codecs: tuple[str, ...]
    """Likewise."""
    forced: str | None
    """The demuxer to use; None: the stream's first bytes tell it."""


WEBM = _Format("WebM with Opus", ("matroska", "webm"), ("opus", "libopus"), "webm")
"""What browsers record. A demuxer that is known needs no look at the stream ahead."""
ANY = _Format(
    "WAV, Ogg, WebM, FLAC, MP3 or AAC (ADTS)",
    ("wav", "ogg", "matroska", "webm", "flac", "mp3", "aac"),
    (
        *WEBM.codecs,
        *("vorbis", "flac", "mp3", "mp3float", "aac"),
        *("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_u8", "pcm_mulaw", "pcm_alaw"),
    ),
    None,
)
"""What can be decoded while it comes in."""
_PROBE_BYTES = 1 << 13
"""So much of a stream FFmpeg may look at before it decodes, once its format is found out."""
_MAX_UNKNOWN_BYTES = 1 << 17
"""A stream whose format this does not tell has none: a few seconds of what is no container."""


class UnreadableStream(Exception):
    """The stream has none of the formats that it may have; the text is for its sender."""


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
        self._again = b""
        self._n_left: int | None = None

    def read(self, n_bytes: int) -> bytes:
        if self._n_left is not None:
            n_bytes = min(n_bytes, self._n_left)
        data = self._next(n_bytes)
        if self._n_left is not None:
            self._n_left -= len(data)
        return data

    def go_back(self, data: bytes) -> None:
        """Have ``read`` return this first."""
        self._again = data

    def end_after(self, n_bytes: int | None) -> None:
        """Let the stream end after so many bytes; None: where it ends itself."""
        self._n_left = n_bytes

    def _next(self, n_bytes: int) -> bytes:
        if self._again:
            data, self._again = self._again[:n_bytes], self._again[n_bytes:]
            return data
        if self._is_at_end or not n_bytes:
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


def decode_stream(connection: socket.socket, order: Mapping[str, Any]) -> None:
    """Decode the stream that comes in, up to its end; ``order`` says whether it is WebM.

    Raises:
        OSError: nobody reads what is decoded.
    """
    allow_memory(MEMORY_BYTES)
    stream = _Stream(connection)
    wanted = ANY if order["any_format"] else WEBM
    try:
        try:
            _decode(stream, wanted)
        except (av.FFmpegError, MemoryError, ValueError) as error:
            stream.check()
            if stream.is_empty:
                stream.tell(Kind.END)
                return
            raise UnreadableStream(
                f"The stream is not {wanted.names}, or it is damaged."
            ) from error
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


def _decode(stream: _Stream, wanted: _Format) -> None:
    forced, demuxers, options = wanted.forced, wanted.demuxers, dict[str, str]()
    if forced is None:
        head = read_head(stream.read)
        if head.sound is None:
            stream.go_back(head.data)
        else:
            forced, options = head.sound.demuxer, head.sound.options
            demuxers = (forced,)
            stream.end_after(head.sound.n_bytes)
    options |= {
        "format_whitelist": ",".join(demuxers),
        "codec_whitelist": ",".join(wanted.codecs),
        "protocol_whitelist": "none",  # no protocol has this name: only the stream can be read
    }
    if forced is None:
        options |= {
            "probesize": str(_PROBE_BYTES),
            "formatprobesize": str(_MAX_UNKNOWN_BYTES),
        }
    with av.open(
        stream,
        "r",
        format=forced,
        options=options,
        buffer_size=_READ_BYTES,
        metadata_errors="replace",
    ) as container:
        sound = next(iter(container.streams.audio), None)
        # A stream of a codec that FFmpeg does not know has no context.
        codec = sound and sound.codec_context and sound.codec_context.name
        if sound is None or codec not in wanted.codecs:
            raise UnreadableStream(f"The stream is not {wanted.names}.")
        resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        for packet in container.demux(sound):
            for frame in packet.decode():
                _resample(resampler, frame, stream)
        _resample(resampler, None, stream)


def _resample(resampler: AudioResampler, frame: av.AudioFrame | None, stream: _Stream) -> None:
    for resampled in resampler.resample(frame):
        # The plane is longer than its samples, by padding.
        stream.tell_audio(bytes(resampled.planes[0])[: 2 * resampled.samples])
