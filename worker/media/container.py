"""Untrusted media files, opened with FFmpeg (through PyAV) and read packet by packet.

FFmpeg may do as little as possible: it has a list of demuxers without playlists, a list of audio
decoders, no way to open a second file, and no file name, whose extension would influence its guess
of the format.
"""

import io
from collections.abc import Iterator
from typing import BinaryIO

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard

from shared.infra.errors import LonghandError, NoAudioTrack, TruncatedMedia, UnreadableMedia

FORMATS = frozenset(
    {"aac", "aiff", "amr", "au", "caf", "flac", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"}
    | {"mp3", "mpegts", "ogg", "w64", "wav"}
)
"""FFmpeg's names of the allowed demuxers; none of them follows references to other files."""

DECODERS = frozenset(
    {"aac", "aac_latm", "ac3", "alac", "amrnb", "amrwb", "eac3", "flac", "gsm", "gsm_ms"}
    | {"libopencore_amrnb", "libopencore_amrwb", "libopus", "opus", "speex", "vorbis"}
    | {"mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float"}
    | {"adpcm_g722", "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms"}
    | {name for name in av.codecs_available if name.startswith("pcm_")}
)
"""FFmpeg's names of the allowed decoders: usual sound formats, and no video, even while probing."""

_EXACT_DURATION = frozenset({"aiff", "au", "flac", "mov,mp4,m4a,3gp,3g2,mj2"})
"""Demuxers whose stream duration is the header's, not an estimate."""

_READ_BYTES = 1 << 16
_DAMAGED_PACKETS = 10
_DAMAGED_SHARE = 0.05
"""Packets that may fail to decode: ten, or this share of a longer file. The transcript of a file
with more damage would mislead."""


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

    def read(self, n_bytes: int) -> bytes:
        if self._failure is None:
            try:
                return self._source.read(n_bytes)
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


def open_container(reader: Reader) -> InputContainer:
    """Open a file of one of ``FORMATS``.

    Raises:
        UnreadableMedia: it is none.
        TruncatedMedia: it ends before its header does.
    """
    options = {
        "format_whitelist": ",".join(FORMATS),
        "codec_whitelist": ",".join(DECODERS),
        "protocol_whitelist": "none",  # no protocol has this name: only the reader can be read
    }
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
        raise UnreadableMedia("The file is not audio or video in a supported format.") from error
    reader.check()
    if container.format.name not in FORMATS:
        container.close()
        raise UnreadableMedia("The file's format is not supported.")
    return container


def choose_stream(container: InputContainer) -> AudioStream:
    """Return the track that a player would play; the others are not read where possible.

    Raises:
        NoAudioTrack: there is none.
        UnreadableMedia: its encoding is not supported, or it is damaged.
    """
    chosen = container.streams.best("audio")
    if not isinstance(chosen, AudioStream):
        raise NoAudioTrack("The file has no audio track.")
    if chosen.codec_context is None or chosen.codec_context.codec.name not in DECODERS:
        raise UnreadableMedia("The audio track's encoding is not supported.")
    if not chosen.rate or not chosen.channels:
        raise UnreadableMedia("The audio track cannot be decoded; it may be damaged.")
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    return chosen


def decode_packets(
    container: InputContainer, stream: AudioStream, reader: Reader
) -> Iterator[AudioFrame]:
    """Yield the decoded frames of a track; damaged packets are skipped as long as they are few.

    Raises:
        UnreadableMedia: too many are damaged.
    """
    n_packets = n_damaged = 0
    packets = container.demux(stream)
    while True:
        frames: list[AudioFrame] = []
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            packets, n_damaged = container.demux(stream), n_damaged + 1
        except IndexError:
            # PyAV 18 fails at the end on a track that appeared while reading (MPEG-TS). It has
            # flushed all earlier tracks by then, including the chosen one.
            return
        else:
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.FFmpegError:
                n_damaged += 1
        reader.check()
        n_packets += 1
        if n_damaged > max(_DAMAGED_PACKETS, _DAMAGED_SHARE * n_packets):
            raise UnreadableMedia("Too much of the file is damaged.")
        yield from frames


def declared_duration_s(container: InputContainer, stream: AudioStream) -> float:
    """Return the length of audio that the header declares; 0 where it declares none."""
    if container.format.name in _EXACT_DURATION:
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
    elif container.format.name == "matroska,webm" and len(container.streams) == 1:
        return (container.duration or 0) / av.time_base
    return 0.0
