"""Untrusted media in, 16 kHz PCM out, one second at a time.

Times. Sample 0 is where the *file* starts, which is where its earliest stream starts: a sound that
starts 1.5 s into a video is at sample 24,000, as players show it. FFmpeg removes encoder priming
that a file declares (mp4 edit lists, Opus pre-skip, LAME tags). Raw ADTS and fragmented mp4 often
declare none, and then start one or two AAC frames (up to 0.13 s) late. A hole in the timestamps,
such as damage causes, becomes silence, so that the audio after it keeps its true offset. What else
samples and timestamps differ by is in a time map (``clock``).

Truncation, found by cutting files of every format (FFmpeg 8). FFmpeg keeps the declared duration of
FLAC, AIFF, AU, Matroska and mp4 with its index in front. It shortens WAV, W64 and CAF to what is
there, and cannot open an mp4 that is cut before its index; ``headers`` reads the headers of these.
MP3, ADTS, AMR, Ogg and MPEG-TS only have an estimated duration, and a fragmented mp4 only that of
its fragments. A truncated file of these formats looks like a short one, and is accepted.

FFmpeg stops at a damaged fragment of an mp4; reading is taken up again at the next one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import av
import numpy as np

from shared.infra.errors import NoAudioTrack, UnreadableMedia
from shared.speech.timemap import TimeMap
from shared.speech.transcript import TranscriptWarning
from worker.media.container import (
    STAMPED,
    Reader,
    declared_duration_s,
    decode_packets,
    open_container,
    truncated,
)
from worker.media.damage import Damage
from worker.media.headers import (
    declared_end,
    is_fragmented,
    length_is_wrong,
    resume_at_next_fragment,
)
from worker.media.timeline import BLOCK_SAMPLES, Channels, Timeline, check_bounds
from worker.media.tracks import audio_streams, describe

_TRUNCATION_TOLERANCE_S = 1.0
"""Headers round, and count priming or padding that is not decoded."""
_LEAST_SHARE = 0.5
"""Of the declared duration: a file with less is refused."""
_MAX_RESUMED = 100
"""Fragments of an mp4 file at which reading is taken up again."""
_SILENT_PEAK = 2
"""Of s16 samples. A track that is no louder anywhere is silent, and the next one is tried."""


@dataclass
class Findings:
    """What is found out about a file while its blocks are read."""

    times: TimeMap = field(default_factory=TimeMap)
    """Where samples lie on the file's clock."""
    warnings: list[TranscriptWarning] = field(default_factory=list)
    """Complete after the last block."""

    def warn(self, code: str, detail: str) -> None:
        """Add a warning."""
        self.warnings.append(TranscriptWarning(code=code, detail=detail))


def decode(
    source: BinaryIO,
    max_duration_s: float,
    *,
    apart: bool = False,
    track: str | None = None,
    strict: bool = False,
    findings: Findings | None = None,
) -> Iterator[Channels]:
    """Yield the best audio track of ``source``, in blocks of shape (n_channels, n_samples).

    Each holds BLOCK_SAMPLES samples, the last one 1 to BLOCK_SAMPLES; at least one is yielded.
    Memory does not grow with the length of the audio. Errors that ``source`` raises are passed on.

    Args:
        source: seekable, and read only through ``read``, ``seek`` and ``tell``.
        max_duration_s: of the decoded audio, whatever the header declares.
        apart: whether the channels are kept apart; else they are mixed down to one.
        track: the number, from 0, or the language of the audio track; None: the default one or,
            where that is silent, the next.
        strict: whether a file that is cut off or damaged is refused in any case.
        findings: filled in while the blocks are read.

    Raises:
        UnreadableMedia: an unsupported format or encoding, too much damage, or not one sample;
            perhaps only after the last block.
        NoAudioTrack: a supported container without sound, or without that track.
        TruncatedMedia: less than half of what the header declares; perhaps only after the last
            block.
        AudioOutOfBounds: sample rate or channel count outside the limits of ``timeline``.
        AudioTooLong: more than ``max_duration_s``; raised once that much was yielded.
    """
    reader = Reader(source)
    file = _File(
        reader,
        max_duration_s,
        apart=apart,
        track=track,
        strict=strict,
        findings=findings or Findings(),
    )
    try:
        yield from file.blocks()
    except (av.FFmpegError, UnreadableMedia, NoAudioTrack) as error:
        if file.missing_bytes > 0 and not file.is_damaged:
            raise truncated() from error
        if isinstance(error, av.FFmpegError):
            raise UnreadableMedia("The file cannot be decoded; it may be damaged.") from error
        raise


class _File:
    """A file that is being decoded; its tracks are tried one after another."""

    def __init__(
        self,
        reader: Reader,
        max_duration_s: float,
        *,
        apart: bool,
        track: str | None,
        strict: bool,
        findings: Findings,
    ) -> None:
        self._reader = reader
        self._max_duration_s = max_duration_s
        self._apart, self._track, self._strict = apart, track, strict
        self._findings = findings
        self.missing_bytes = (declared_end(reader) or 0) - reader.n_bytes
        self.is_damaged = False
        """Whether it was refused for damage."""
        self._fragmented = is_fragmented(reader)
        self._to_the_end = length_is_wrong(reader)

    def blocks(self) -> Iterator[Channels]:
        """Yield the blocks of the first track that is not silent, or of the last one."""
        candidate = 0
        while True:
            n_silent, is_heard, n_candidates = 0, False, 0
            for n_candidates, block in self._track_blocks(candidate):
                is_heard = is_heard or candidate + 1 >= n_candidates or not _is_silent(block)
                if is_heard:
                    yield from _silence(len(block), n_silent)
                    n_silent = 0
                    yield block
                else:
                    n_silent += block.shape[1]
            if is_heard or candidate + 1 >= n_candidates:
                return
            candidate += 1

    def _track_blocks(self, candidate: int) -> Iterator[tuple[int, Channels]]:
        """Yield how many tracks can be tried, and the blocks of one of them."""
        reader, findings = self._reader, self._findings
        findings.warnings.clear()
        timeline: Timeline | None = None
        damage = Damage()
        origin_s: float | None = None
        declared_s, bit_rate, last_position, n_candidates = 0.0, 0, 0, 0
        skipped: tuple[int, int] | None = None
        """Bytes of an mp4 file that FFmpeg stopped at."""
        for _ in range(_MAX_RESUMED + 1):
            reader.seek(0)
            with open_container(reader, to_the_end=self._to_the_end) as container:
                streams = audio_streams(container, self._track)
                stream, n_candidates = streams[min(candidate, len(streams) - 1)], len(streams)
                bit_rate = bit_rate or stream.codec_context.bit_rate or 0
                if timeline is None:
                    timeline = Timeline(
                        self._max_duration_s,
                        mix=not self._apart,
                        stamped=container.format.name in STAMPED,
                    )
                    findings.times = timeline.times
                    check_bounds(stream.rate, stream.channels)
                    tracks = list(container.streams.audio)
                    if len(tracks) > 1:
                        findings.warn(
                            "several_tracks",
                            f"The file has {describe(tracks)}; track {tracks.index(stream)} "
                            "was transcribed.",
                        )
                for starts_s, packet in decode_packets(container, stream, reader):
                    origin_s = starts_s if origin_s is None else origin_s
                    if skipped is not None and packet.position is not None:
                        damage.note_unread(timeline.end_s, *skipped)
                        skipped = None
                    if packet.position is not None:
                        last_position = max(last_position, packet.position)
                    if packet.frames is None:
                        damage.note(timeline.end_s, packet.duration_s)
                        for block in timeline.skip(packet.duration_s):
                            yield n_candidates, block
                        continue
                    damage.n_packets += 1
                    for frame in packet.frames:
                        for block in timeline.place(frame, origin_s):
                            yield n_candidates, block
                if not self._fragmented:
                    declared_s = declared_duration_s(container, stream)
            if not self._fragmented or skipped is not None:
                break  # what was skipped before held nothing of this track
            found = resume_at_next_fragment(reader, last_position)
            reader.check()
            if found is None:
                break
            skipped = last_position, found
        assert timeline is not None
        for block in timeline.finish():
            yield n_candidates, block
        reader.patch(0, b"")
        self._judge(timeline, damage, declared_s, bit_rate)

    def _judge(
        self, timeline: Timeline, damage: Damage, declared_s: float, bit_rate: float
    ) -> None:
        """Warn of what is missing, or refuse the file for it."""
        findings, audio_s = self._findings, timeline.audio_s
        if damage.is_too_much:
            self.is_damaged = True
            raise UnreadableMedia("Too much of the file is damaged.")
        missing_s = max(0.0, declared_s - audio_s - damage.lost_s)
        if self.missing_bytes > 0 and bit_rate:
            missing_s = max(missing_s, self.missing_bytes * 8 / bit_rate)
        if missing_s > _TRUNCATION_TOLERANCE_S:
            if self._strict or audio_s < _LEAST_SHARE * (audio_s + missing_s):
                raise truncated()
            findings.warn(
                "truncated",
                "The file ends before its own header says it does: "
                f"its last {missing_s:.1f} s are missing.",
            )
        elif self.missing_bytes > 0 and not bit_rate and self._strict:
            raise truncated()
        if self._strict and damage.any:
            raise UnreadableMedia("The file is damaged.")
        if not timeline.n_samples:
            raise UnreadableMedia("The file holds no audio that can be decoded.")
        if damage.any:
            findings.warn("damaged", damage.detail(timeline.times.time_of))
        if self._to_the_end:
            findings.warn(
                "wrong_length",
                "The file holds more sound than its header says; all of it was transcribed.",
            )
        if timeline.n_cancelled:
            findings.warn(
                "channels_cancel",
                f"In {timeline.n_cancelled} s of the audio the channels cancel each other out, as "
                "one of them is inverted; there the louder one was transcribed.",
            )


def _is_silent(block: Channels) -> bool:
    return bool((block <= _SILENT_PEAK).all() and (block >= -_SILENT_PEAK).all())


def _silence(n_channels: int, n_samples: int) -> Iterator[Channels]:
    for _ in range(0, n_samples, BLOCK_SAMPLES):
        yield np.zeros((n_channels, BLOCK_SAMPLES), np.int16)
