"""Untrusted media in, mono 16 kHz PCM out, one second at a time.

FFmpeg (through PyAV) is given as little room as possible: a list of demuxers without any playlist,
a list of audio decoders, no way to open a second file, and no file name (a name's ending would
steer its guess of the format).

Times. Sample 0 is the moment at which the *file* starts, that is its earliest stream: sound that
sets in 1.5 s into a video starts at sample 24,000, as players show it. Encoder priming that the
file declares (mp4 edit lists, Opus pre-skip, LAME tags) is removed by FFmpeg; raw ADTS and
fragmented mp4 often declare none, and then start one or two AAC frames (up to 0.13 s) late. A hole
in the timestamps, such as damage leaves behind, becomes silence, so that what follows keeps its
true offset.

Truncation, as found by cutting files of every format (FFmpeg 8): FFmpeg keeps the declared
duration of FLAC, AIFF, AU, mp4 (index in front) and Matroska, but shortens WAV, W64 and CAF to
what is there, and cannot open an mp4 that is cut before its index; of those the headers are read
here. MP3, ADTS, AMR, Ogg and MPEG-TS only have an estimated duration, and a fragmented mp4 only
that of the fragments present: a cut in one of those cannot be told from a short recording and is
accepted.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard

from shared.infra.errors import (
    AudioOutOfBounds,
    AudioTooLong,
    LonghandError,
    NoAudioTrack,
    TruncatedMedia,
    UnreadableMedia,
)
from shared.infra.quantities import duration
from shared.speech.audio import Pcm
from shared.speech.chunks import SAMPLE_RATE
from worker.media.headers import declared_end

BLOCK_SAMPLES = SAMPLE_RATE
"""Length of every block but the last: one second."""

FORMATS = frozenset(
    {"aac", "aiff", "amr", "au", "caf", "flac", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"}
    | {"mp3", "mpegts", "ogg", "w64", "wav"}
)
"""FFmpeg's names of the demuxers we allow; none of them follows references to other files."""

DECODERS = frozenset(
    {"aac", "aac_latm", "ac3", "alac", "amrnb", "amrwb", "eac3", "flac", "gsm", "gsm_ms"}
    | {"libopencore_amrnb", "libopencore_amrwb", "libopus", "opus", "speex", "vorbis"}
    | {"mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float"}
    | {"adpcm_g722", "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms"}
    | {name for name in av.codecs_available if name.startswith("pcm_")}
)
"""FFmpeg's names of the decoders we allow: usual sound formats, no video even while probing."""

_EXACT_DURATION = frozenset({"aiff", "au", "flac", "mov,mp4,m4a,3gp,3g2,mj2"})
"""Demuxers whose stream duration is the header's word, not an estimate."""

_READ_BYTES = 1 << 16
_TRUNCATION_TOLERANCE_S = 1.0
"""Headers round, and count priming or padding that is not decoded."""
_HOLE_S = 0.1
"""Timestamps off by less are jitter (Matroska rounds to milliseconds; recorders do worse)."""
_MAX_HOLE_S = 3600
"""A jump beyond this is a broken clock (MPEG-TS wraps after 26.5 hours), not an hour of silence."""
_DAMAGED_PACKETS = 10
_DAMAGED_SHARE = 0.05
"""Packets that may fail to decode: ten, more in a long file. Beyond, the text would mislead."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a file may ask of us. Durations count decoded audio, whatever the header claims."""

    max_duration_s: float
    min_rate_hz: int = 4_000
    max_rate_hz: int = 384_000
    max_channels: int = 8


Channels = npt.NDArray[np.int16]
"""Audio of several channels, shape (n_channels, n_samples), at SAMPLE_RATE."""


def decode(source: BinaryIO, limits: DecodeLimits) -> Iterator[Pcm]:
    """Yield the best audio track of ``source``, its channels mixed down to one.

    As ``decode_channels``, but blocks have the shape (n_samples,).
    """
    return (block[0] for block in _decode(source, limits, mix=True))


def decode_channels(source: BinaryIO, limits: DecodeLimits) -> Iterator[Channels]:
    """Yield the best audio track of ``source`` (seekable, read only through ``read`` and ``seek``).

    Blocks hold BLOCK_SAMPLES samples, the last one 1 to BLOCK_SAMPLES; at least one is yielded.
    Memory does not grow with the length of the audio. Whatever ``source`` raises is passed on.

    Raises:
        UnreadableMedia: an unsupported format or encoding, too much damage, or not one sample.
        NoAudioTrack: a supported container without sound.
        TruncatedMedia: less audio than the header declares; perhaps only after the last block.
        AudioOutOfBounds: sample rate or channel count outside the limits.
        AudioTooLong: more than ``limits.max_duration_s``; raised once that much was yielded.
    """
    return _decode(source, limits, mix=False)


def _decode(source: BinaryIO, limits: DecodeLimits, *, mix: bool) -> Iterator[Channels]:
    reader = _Reader(source)
    missing_bytes = (declared_end(reader) or 0) - reader.n_bytes
    reader.seek(0)
    try:
        with _open(reader) as container:
            stream = _choose_stream(container)
            slack_bytes = _TRUNCATION_TOLERANCE_S * (stream.codec_context.bit_rate or 0) / 8
            if missing_bytes > slack_bytes:
                raise _truncated()
            origin_s = Fraction(container.start_time or 0, av.time_base)
            timeline = _Timeline(limits, origin_s, mix=mix)
            timeline.check_bounds(stream.rate, stream.channels)
            for frame in _decode_packets(container, stream, reader):
                yield from timeline.place(frame)
            yield from timeline.finish()
            declared_s = _declared_duration_s(container, stream)
    except (av.FFmpegError, UnreadableMedia, NoAudioTrack) as error:
        if missing_bytes > 0:
            raise _truncated() from error
        if isinstance(error, av.FFmpegError):
            raise UnreadableMedia("The file cannot be decoded; it may be damaged.") from error
        raise
    if timeline.audio_s < declared_s - _TRUNCATION_TOLERANCE_S:
        raise _truncated()
    if not timeline.n_samples:
        raise UnreadableMedia("The file holds no audio that can be decoded.")


def _truncated() -> TruncatedMedia:
    return TruncatedMedia("The file is incomplete: it ends before its own header says it does.")


class _Reader:
    """A file object for FFmpeg that keeps the error of a failed read.

    FFmpeg would turn it into an early end of the file, and a storage outage into a short
    transcript; so reading just ends, and ``check`` raises the error once FFmpeg has returned.
    """

    def __init__(self, source: BinaryIO) -> None:
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
        if whence == io.SEEK_SET:  # a header may name offsets that no file can have
            offset = min(offset, self.n_bytes)
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        return self._source.tell()

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure


def _open(reader: _Reader) -> InputContainer:
    options = {
        "format_whitelist": ",".join(FORMATS),
        "codec_whitelist": ",".join(DECODERS),
        "protocol_whitelist": "none",  # names no protocol: nothing but the reader can be read
    }
    try:
        container = av.open(
            reader,
            "r",
            options=options,
            buffer_size=_READ_BYTES,
            metadata_errors="replace",  # old taggers wrote whatever their machine's encoding was
        )
    except av.FFmpegError as error:
        reader.check()
        if isinstance(error, av.EOFError):
            raise _truncated() from error
        raise UnreadableMedia("The file is not audio or video in a supported format.") from error
    reader.check()
    if container.format.name not in FORMATS:
        container.close()
        raise UnreadableMedia("The file's format is not supported.")
    return container


def _choose_stream(container: InputContainer) -> AudioStream:
    """The track a player would play; all others are skipped unread where the format allows it."""
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


def _decode_packets(
    container: InputContainer, stream: AudioStream, reader: _Reader
) -> Iterator[AudioFrame]:
    """Decode, skipping damaged packets as long as they are few."""
    n_packets = n_damaged = 0
    packets = container.demux(stream)
    while True:
        frames: list[AudioFrame] = []
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            packets, n_damaged = container.demux(stream), n_damaged + 1
        except IndexError:
            # A track appeared while reading (MPEG-TS). PyAV 18 does not know it and stumbles over
            # it at the end, when all tracks before it, so ours too, have been flushed.
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


class _Timeline:
    """Resamples frames, mixed down or not, and puts them where their timestamps say.

    ``n_samples`` counts what was placed, silence included; ``audio_s`` is without silence in front.
    """

    def __init__(self, limits: DecodeLimits, origin_s: Fraction, *, mix: bool) -> None:
        self._limits = limits
        self._origin_s = origin_s
        self._mix = mix
        self._n_channels = 1 if mix else 0
        """Of what is yielded; 0 until the first frame tells."""
        self._end_s = Fraction(0)
        """Where the next frame is expected to start; a fraction, as sums of floats would drift."""
        self._shape: tuple[str, str, int] | None = None
        self._resampler: AudioResampler | None = None
        self._pending: list[Channels] = []
        self._n_pending = 0
        self.n_samples = 0
        self._lead_samples = 0

    @property
    def audio_s(self) -> float:
        return (self.n_samples - self._lead_samples) / SAMPLE_RATE

    def check_bounds(self, rate_hz: int, n_channels: int) -> None:
        limits = self._limits
        if not limits.min_rate_hz <= rate_hz <= limits.max_rate_hz:
            raise AudioOutOfBounds(
                f"The sample rate of {rate_hz:,} Hz is outside "
                f"{limits.min_rate_hz:,} to {limits.max_rate_hz:,} Hz."
            )
        if not 1 <= n_channels <= limits.max_channels:
            raise AudioOutOfBounds(
                f"The audio has {n_channels} channels; 1 to {limits.max_channels} are supported."
            )

    def place(self, frame: AudioFrame) -> Iterator[Channels]:
        self._n_channels = self._n_channels or frame.layout.nb_channels
        if not self._mix and frame.layout.nb_channels != self._n_channels:
            raise UnreadableMedia(
                "The number of channels changes within the file; it can only be transcribed with "
                "all channels mixed."
            )
        if frame.pts is not None and frame.time_base is not None:
            hole_s = frame.pts * frame.time_base - self._origin_s - self._end_s
            if _HOLE_S < hole_s <= _MAX_HOLE_S:
                yield from self._fill(hole_s)
            elif abs(hole_s) > _HOLE_S:
                # The clock jumped, or ran backwards: go on where we are rather than drop sound.
                self._origin_s += hole_s
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            yield from self._drain()
            self.check_bounds(frame.sample_rate, frame.layout.nb_channels)
            # FFmpeg would take channels without a layout for loudspeakers, and drop the third or
            # fourth as a subwoofer's; they are microphones as a rule, so each counts the same.
            unnamed = frame.layout.nb_channels > 2 and frame.layout.name.endswith(" channels")
            layout = "mono" if self._mix and not unnamed else None
            self._resampler = AudioResampler("s16", layout, SAMPLE_RATE)
            self._shape = shape
        assert self._resampler is not None
        self._end_s += Fraction(frame.samples, frame.sample_rate)
        for resampled in self._resampler.resample(frame):
            yield from self._put(self._channels(resampled))

    def finish(self) -> Iterator[Channels]:
        yield from self._drain()
        if self._n_pending:
            yield np.concatenate(self._pending, axis=1)

    def _drain(self) -> Iterator[Channels]:
        """Empty the resampler: everything before ``_end_s`` is placed then."""
        if self._resampler is not None:
            for resampled in self._resampler.resample(None):
                yield from self._put(self._channels(resampled))
        self._resampler = self._shape = None

    def _fill(self, hole_s: Fraction) -> Iterator[Channels]:
        yield from self._drain()
        self._end_s += hole_s
        missing = round(self._end_s * SAMPLE_RATE) - self.n_samples
        if not self.n_samples:
            self._lead_samples = missing
        for start in range(0, missing, BLOCK_SAMPLES):
            n_samples = min(BLOCK_SAMPLES, missing - start)
            yield from self._put(np.zeros((self._n_channels, n_samples), np.int16))

    def _put(self, samples: Channels) -> Iterator[Channels]:
        self._pending.append(samples)
        self._n_pending += samples.shape[1]
        self.n_samples += samples.shape[1]
        if self._n_pending >= BLOCK_SAMPLES:
            joined = np.concatenate(self._pending, axis=1)
            n_whole = self._n_pending // BLOCK_SAMPLES
            rest = joined[:, n_whole * BLOCK_SAMPLES :]
            self._pending, self._n_pending = [rest], rest.shape[1]
            for start in range(0, n_whole * BLOCK_SAMPLES, BLOCK_SAMPLES):
                yield joined[:, start : start + BLOCK_SAMPLES]
        if self.n_samples > self._limits.max_duration_s * SAMPLE_RATE:
            raise AudioTooLong(
                f"The audio is longer than {duration(self._limits.max_duration_s)} "
                "(LONGHAND_MAX_DURATION_S)."
            )

    def _channels(self, frame: AudioFrame) -> Channels:
        """Interleaved s16 -> (n_channels, n_samples), mixed down where that is wanted.

        Not planar: with 8 planes PyAV 18 reads beyond the last.
        """
        channels = frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T
        if self._mix and len(channels) > 1:
            channels = np.rint(channels.mean(axis=0, keepdims=True))
        return np.asarray(channels, np.int16)


def _declared_duration_s(container: InputContainer, stream: AudioStream) -> float:
    """How much audio the header promises, 0 where it promises nothing."""
    if container.format.name in _EXACT_DURATION:
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
    elif container.format.name == "matroska,webm" and len(container.streams) == 1:
        return (container.duration or 0) / av.time_base
    return 0.0
