"""Untrusted media files, opened with FFmpeg (through PyAV) and read packet by packet.

FFmpeg may do as little as possible: it has a list of demuxers without playlists, a list of audio
decoders, no way to open a second file, and no file name, whose extension would influence its guess
of the format.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream

from shared.infra.errors import LonghandError, TruncatedMedia, UnreadableMedia

STAMPED = frozenset(
    {"asf", "avi", "flv", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "mpeg", "mpegts", "ogg"}
)
"""Allowed demuxers of formats that say when their sound is. In all others samples count: FFmpeg
makes their timestamps up, from the first frame's rate."""

FORMATS = STAMPED | frozenset(
    {"aac", "ac3", "aiff", "amr", "au", "caf", "dts", "eac3", "flac", "gsm", "mp3", "w64", "wav"}
    | {"wv"}
)
"""FFmpeg's names of the allowed demuxers; none of them follows references to other files."""

DECODERS = frozenset(
    {"aac", "aac_latm", "ac3", "alac", "amrnb", "amrwb", "dca", "eac3", "flac", "gsm", "gsm_ms"}
    | {"libopencore_amrnb", "libopencore_amrwb", "libopus", "opus", "speex", "vorbis", "wavpack"}
    | {"mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float"}
    | {"wmalossless", "wmapro", "wmav1", "wmav2", "wmavoice"}
    | {"adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "adpcm_swf", "g722", "g726", "g726le"}
    | {name for name in av.codecs_available if name.startswith("pcm_")}
)
"""FFmpeg's names of the allowed decoders: usual sound formats, and no video, even while probing."""

SUPPORTED = (
    "WAV, AIFF, AU, CAF, FLAC, WavPack, MP3, AAC, AC-3, DTS, Ogg, AMR, GSM, MP4, MOV, Matroska, "
    "WebM, MPEG-TS, MPEG-PS, AVI, FLV, WMA"
)
"""What people call them."""

_EXACT_DURATION = frozenset({"aiff", "au", "flac", "mov,mp4,m4a,3gp,3g2,mj2"})
"""Demuxers whose stream duration is the header's, not an estimate."""

_UNKNOWN_BYTES = 0x7EFF_0000
"""An AIFF that declares so much was written into a pipe (SoX): its length is not known."""
_READ_BYTES = 1 << 16
_FAILED_READS = 20
"""So many failures in a row to read a packet are the end of what can be read."""
_PCM_PROBE_BYTES = 1 << 15
"""So much of a PCM track FFmpeg searches for DTS and AC-3, which some WAV files declare as PCM. By
default it searches four times as much, which takes longer than to decode a short file."""
_START_PACKETS = 2_000
_START_BYTES = 4 << 20
"""So much is read at most to find where the pictures start."""
_GUESSED_STARTS = frozenset({"asf", "avi", "flv", "matroska,webm", "mpeg", "mpegts"})
"""Demuxers that know a stream's start from its packets only. FFmpeg gives a video stream whose
codec it may not open, such as H.264, the start of the file's sound."""


class Reader:
    """A file object for FFmpeg that keeps the error of a failed read.

    FFmpeg takes an error for the end of the file, so an outage of the object store would truncate
    the transcript. ``check`` raises the error after FFmpeg has returned.
    """

    def __init__(self, source: BinaryIO) -> None:
        """Take a file that is read only through ``read``, ``seek`` and ``tell``."""
        self._source = source
        self.n_bytes = source.seek(0, io.SEEK_END)
        self._failure: OSError | LonghandError | None = None
        self._patch, self._patched_at = b"", 0

    def patch(self, offset: int, data: bytes) -> None:
        """Show ``data`` at ``offset`` in place of what is there, and nothing else changed."""
        self._patch, self._patched_at = data, offset

    def read(self, n_bytes: int) -> bytes:
        if self._failure is None:
            try:
                if not self._patch:
                    return self._source.read(n_bytes)
                start = self._source.tell()
                data = bytearray(self._source.read(n_bytes))
                first = max(start, self._patched_at)
                last = min(start + len(data), self._patched_at + len(self._patch))
                if first < last:
                    shown = self._patch[first - self._patched_at : last - self._patched_at]
                    data[first - start : last - start] = shown
                return bytes(data)
            except (OSError, LonghandError) as error:
                self._failure = error
        return b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:  # a damaged header may have offsets beyond the file
            offset = min(offset, self.n_bytes)
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        return self._source.tell()

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure


def truncated() -> TruncatedMedia:
    """Return the error of a file that ends too early."""
    return TruncatedMedia("The file is incomplete: it ends before its own header says it does.")


def _is_pcm_wav(reader: Reader) -> bool:
    """Return whether it is a WAV file whose header says PCM first; the reader is at 0 then."""
    reader.seek(0)
    head = reader.read(22)
    reader.seek(0)
    return head.startswith(b"RIFF") and head[8:16] == b"WAVEfmt " and head[20:] == b"\x01\x00"


def open_container(reader: Reader, *, to_the_end: bool = False) -> InputContainer:
    """Open a file of one of ``FORMATS``; ``to_the_end``: a WAV's own length is wrong.

    Raises:
        UnreadableMedia: it is none.
        TruncatedMedia: it ends before its header does.
    """
    options = {
        "format_whitelist": ",".join(FORMATS),
        "codec_whitelist": ",".join(DECODERS),
        "protocol_whitelist": "none",  # no protocol has this name: only the reader can be read
    }
    if to_the_end:
        options["ignore_length"] = "1"
    if _is_pcm_wav(reader):
        options["probesize"] = str(_PCM_PROBE_BYTES)
    try:
        container = av.open(
            reader,
            "r",
            options=options,
            buffer_size=_READ_BYTES,
            metadata_errors="replace",  # old taggers wrote in any encoding
        )
    except av.FFmpegError as error:
        reader.check()
        if isinstance(error, av.EOFError):
            raise truncated() from error
        raise UnreadableMedia(
            f"The file is not audio or video in a supported format: {SUPPORTED}."
        ) from error
    reader.check()
    if container.format.name not in FORMATS:
        container.close()
        raise UnreadableMedia("The file's format is not supported.")
    return container


@dataclass(slots=True)
class Decoded:
    """A packet of the track: its frames, or None where it cannot be decoded."""

    frames: list[AudioFrame] | None
    duration_s: float
    """As the container has it; 0 where it does not say."""
    position: int | None
    """Offset in the file, in bytes, where known."""


def decode_packets(
    container: InputContainer, stream: AudioStream, reader: Reader
) -> Iterator[tuple[float, Decoded]]:
    """Yield the decoded packets of a track, each with the stamp of the file's start, in seconds.

    The file starts where its earliest stream starts.
    """
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    origin_s = (container.start_time or 0) / av.time_base
    waiting: list[Decoded] = []
    unseen = _streams_without_start(container)
    for other in unseen:
        other.discard = Discard.default
    n_packets = n_bytes = n_failed = 0
    packets = container.demux([stream, *unseen])
    while True:
        decoded = Decoded(None, 0.0, None)
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            packets = container.demux([stream, *unseen])
            n_failed += 1
            if n_failed > _FAILED_READS:
                break
        except IndexError:
            # PyAV 18 fails at the end on a track that appeared while reading (MPEG-TS). It has
            # flushed all earlier tracks by then, including the chosen one.
            break
        else:
            n_failed = 0
            if packet is None:
                break
            if packet.stream.index != stream.index:
                start = packet.pts if packet.pts is not None else packet.dts
                if packet.stream in unseen and start is not None:
                    origin_s = min(origin_s, float(start * packet.time_base))
                    packet.stream.discard = Discard.all
                    unseen.remove(packet.stream)
                continue
            decoded = _decode(packet)
            n_bytes += packet.size
        reader.check()
        n_packets += 1
        if unseen and n_packets < _START_PACKETS and n_bytes < _START_BYTES:
            waiting.append(decoded)
            continue
        for other in unseen:
            other.discard = Discard.all
        unseen.clear()
        yield from ((origin_s, each) for each in waiting)
        waiting.clear()
        yield origin_s, decoded
    reader.check()
    yield from ((origin_s, each) for each in waiting)


def _decode(packet: "Packet[Any]") -> Decoded:
    duration_s = 0.0
    if packet.duration and packet.time_base:
        duration_s = float(packet.duration * packet.time_base)
    try:
        frames: list[Any] = packet.decode()
    except av.FFmpegError:
        return Decoded(None, duration_s, packet.pos)
    return Decoded(frames, duration_s, packet.pos)


def _streams_without_start(container: InputContainer) -> list[Stream]:
    """Return the video streams whose first packet tells where they start."""
    if container.format.name not in _GUESSED_STARTS:
        return []
    return [
        found
        for found in container.streams.video
        if not found.disposition & Disposition.attached_pic
    ]


def declared_duration_s(container: InputContainer, stream: AudioStream) -> float:
    """Return the length of audio that the header declares; 0 where it declares none."""
    if container.format.name in _EXACT_DURATION:
        if stream.duration is None or stream.time_base is None:
            return 0.0
        declared_s = float(stream.duration * stream.time_base)
        n_bytes = declared_s * (stream.codec_context.bit_rate or 0) / 8
        unknown = container.format.name == "aiff" and n_bytes >= _UNKNOWN_BYTES
        return 0.0 if unknown else declared_s
    if container.format.name == "matroska,webm" and len(container.streams) == 1:
        return ((container.duration or 0) - max(0, container.start_time or 0)) / av.time_base
    return 0.0
