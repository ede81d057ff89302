"""Untrusted media files, opened with FFmpeg (through PyAV) and read packet by packet.

FFmpeg may do as little as possible: it has a list of demuxers without playlists, a list of audio
decoders, no way to open a second file, and no file name, whose extension would influence its guess
of the format.
"""

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from shared.infra.errors import TruncatedMedia, UnreadableMedia
from worker.media.reader import Reader

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

_EXACT_DURATION = frozenset({"aiff", "au", "avi", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "wv"})
"""Demuxers whose stream duration is the header's, not an estimate."""

_UNKNOWN_BYTES = 0x7EFF_0000
"""An AIFF that declares so much was written into a pipe (SoX): its length is not known."""
_READ_BYTES = 1 << 16
_PCM_PROBE_BYTES = 1 << 15
"""So much of a PCM track FFmpeg searches for DTS and AC-3, which some WAV files declare as PCM. By
default it searches four times as much, which takes longer than to decode a short file."""


def truncated() -> TruncatedMedia:
    """Return the error of a file that ends too early."""
    return TruncatedMedia("The file is incomplete: it ends before its own header says it does.")


def _is_pcm_wav(reader: Reader) -> bool:
    """Return whether it is a WAV file whose header says PCM first; the reader is at 0 then."""
    reader.seek(0)
    head = reader.read(22)
    reader.seek(0)
    return head.startswith(b"RIFF") and head[8:16] == b"WAVEfmt " and head[20:] == b"\x01\x00"


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


def declared_duration_s(container: InputContainer, stream: AudioStream) -> float:
    """Return the length of audio that the header declares; 0 where it declares none."""
    if container.format.name in _EXACT_DURATION:
        if stream.duration is None or stream.time_base is None:
            return 0.0
        declared_s = float(stream.duration * stream.time_base)
        n_bytes = declared_s * (stream.codec_context.bit_rate or 0) / 8
        unknown = container.format.name == "aiff" and n_bytes >= _UNKNOWN_BYTES
        return 0.0 if unknown else declared_s
    if container.format.name in ("flv", "matroska,webm") and len(container.streams) == 1:
        return ((container.duration or 0) - max(0, container.start_time or 0)) / av.time_base
    return 0.0
