"""Untrusted media in, 16 kHz PCM out, one second at a time.

Times. Sample 0 is where the *file* starts, which is where its earliest stream starts: a sound that
starts 1.5 s into a video is at sample 24,000, as players show it. FFmpeg removes encoder priming
that a file declares (mp4 edit lists, Opus pre-skip, LAME tags). Raw ADTS and fragmented mp4 often
declare none, and then start one or two AAC frames (up to 0.13 s) late. A hole in the timestamps,
such as damage causes, becomes silence, so that the audio after it keeps its true offset.

Truncation, found by cutting files of every format (FFmpeg 8). FFmpeg keeps the declared duration of
FLAC, AIFF, AU, Matroska and mp4 with its index in front. It shortens WAV, W64 and CAF to what is
there, and cannot open an mp4 that is cut before its index; ``headers`` reads the headers of these.
MP3, ADTS, AMR, Ogg and MPEG-TS only have an estimated duration, and a fragmented mp4 only that of
its fragments. A truncated file of these formats looks like a short one, and is accepted.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

import av

from shared.infra.errors import NoAudioTrack, UnreadableMedia
from worker.media.container import (
    Reader,
    choose_stream,
    declared_duration_s,
    decode_packets,
    open_container,
    truncated,
)
from worker.media.headers import declared_end
from worker.media.timeline import Channels, Timeline, check_bounds

_TRUNCATION_TOLERANCE_S = 1.0
"""Headers round, and count priming or padding that is not decoded."""


def decode(source: BinaryIO, max_duration_s: float, *, apart: bool = False) -> Iterator[Channels]:
    """Yield the best audio track of ``source``, in blocks of shape (n_channels, n_samples).

    Each holds BLOCK_SAMPLES samples, the last one 1 to BLOCK_SAMPLES; at least one is yielded.
    Memory does not grow with the length of the audio. Errors that ``source`` raises are passed on.

    Args:
        source: seekable, and read only through ``read``, ``seek`` and ``tell``.
        max_duration_s: of the decoded audio, whatever the header declares.
        apart: whether the channels are kept apart; else they are mixed down to one.

    Raises:
        UnreadableMedia: an unsupported format or encoding, too much damage, or not one sample.
        NoAudioTrack: a supported container without sound.
        TruncatedMedia: less audio than the header declares; perhaps only after the last block.
        AudioOutOfBounds: sample rate or channel count outside the limits of ``timeline``.
        AudioTooLong: more than ``max_duration_s``; raised once that much was yielded.
    """
    reader = Reader(source)
    missing_bytes = (declared_end(reader) or 0) - reader.n_bytes
    reader.seek(0)
    try:
        with open_container(reader) as container:
            stream = choose_stream(container)
            slack_bytes = _TRUNCATION_TOLERANCE_S * (stream.codec_context.bit_rate or 0) / 8
            if missing_bytes > slack_bytes:
                raise truncated()
            origin_s = Fraction(container.start_time or 0, av.time_base)
            timeline = Timeline(origin_s, max_duration_s, mix=not apart)
            check_bounds(stream.rate, stream.channels)
            for frame in decode_packets(container, stream, reader):
                yield from timeline.place(frame)
            yield from timeline.finish()
            declared_s = declared_duration_s(container, stream)
    except (av.FFmpegError, UnreadableMedia, NoAudioTrack) as error:
        if missing_bytes > 0:
            raise truncated() from error
        if isinstance(error, av.FFmpegError):
            raise UnreadableMedia("The file cannot be decoded; it may be damaged.") from error
        raise
    if timeline.audio_s < declared_s - _TRUNCATION_TOLERANCE_S:
        raise truncated()
    if not timeline.n_samples:
        raise UnreadableMedia("The file holds no audio that can be decoded.")
