"""Untrusted media in, 16 kHz PCM out, one second at a time.

Times. Sample 0 is where the *file* starts, which is where its earliest stream starts: a sound that
starts 1.5 s into a video is at sample 24,000, as players show it. FFmpeg removes encoder priming
that a file declares (MP4 edit lists, Opus pre-skip, LAME tags). Raw ADTS and fragmented MP4 often
declare none, and then start one or two AAC frames (up to 0.13 s) late. A gap in the timestamps,
such as damage causes, becomes silence, so the audio after it keeps its true offset. Other
differences of samples and timestamps are in a time map (``clock``).

Truncation, found by cutting files of every format (FFmpeg 8). FFmpeg keeps the declared duration of
FLAC, WavPack, AIFF, AU, AVI, FLV, Matroska and MP4 with its index in front. It shortens WAV, W64
and CAF to what is there, and cannot open an MP4 that is cut before its index. ``headers`` reads the
headers of these, the Xing header of MP3 and the end of Ogg, MPEG-TS and MPEG-PS. ADTS, AC-3, AMR,
MPEG-TS and MPEG-PS declare no length, and a fragmented MP4 only that of its fragments. One that is
cut within a packet is told; one that is cut between two looks like a short file.

Damage. Warnings name the places of packets that cannot be decoded, of bytes that cannot be read and
of gaps in the timestamps. Where FFmpeg stops, ``packets`` reads on.
"""

from collections.abc import Iterator
from typing import BinaryIO

import av
import numpy as np

from shared.infra.errors import NoAudioTrack, UnreadableMedia
from shared.speech.audio.samples import Channels
from worker.media.container import truncated
from worker.media.damage import Damage
from worker.media.findings import Findings
from worker.media.headers.layout import layout
from worker.media.headers.mpegts import mpeg_is_cut
from worker.media.headers.ogg import ogg_is_cut
from worker.media.packets import TrackPackets
from worker.media.reader import Reader
from worker.media.timeline import BLOCK_SAMPLES, Timeline

_TRUNCATION_TOLERANCE_S = 1.0
"""Headers round, and count priming or padding that is not decoded."""
_LEAST_SHARE = 0.5
"""Of the declared duration: a file with less is refused."""
_MISSING_BYTES = 1_024
"""Fewer that a header declares and that are not there are padding."""
_NOTHING_DECODED = "The file holds no audio that can be decoded."
_SILENT_PEAK = 2
"""Of s16 samples. A track that is no louder anywhere is silent, and the next one is tried."""


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
        self._layout = layout(reader)
        reader.check()
        self.missing_bytes = self._layout.missing_bytes
        self.is_damaged = False
        """Whether it was refused for damage."""

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
        findings = self._findings
        findings.warnings.clear()
        packets = TrackPackets(self._reader, self._layout, self._track, candidate)
        timeline: Timeline | None = None
        damage = Damage()
        for packet in packets:
            if timeline is None:
                timeline = Timeline(
                    self._max_duration_s, mix=not self._apart, stamped=packets.stamped
                )
                findings.times = timeline.times
                if packets.several:
                    findings.warn("several_tracks", packets.several)
            if packet.restarts:
                for block in timeline.restart():
                    yield packets.n_candidates, block
            if packet.unread is not None:
                damage.note_unread(timeline.end_s, *packet.unread)
            if packet.frames is None:
                if packet.is_read:
                    damage.note(timeline.end_s, packet.duration_s)
                else:
                    damage.note_failed_read(timeline.end_s)
                for block in timeline.skip(packet.duration_s):
                    yield packets.n_candidates, block
                continue
            damage.n_packets += 1
            for index, frame in enumerate(packet.frames):
                stamp_s = packet.stamp_s if index == 0 else None
                for block in timeline.place(frame, packet.origin_s, stamp_s):
                    yield packets.n_candidates, block
        if timeline is None:
            raise UnreadableMedia(_NOTHING_DECODED)
        for block in timeline.finish():
            yield packets.n_candidates, block
        if packets.unread_tail is not None:
            damage.note_unread(timeline.end_s, *packets.unread_tail)
        self._judge(timeline, damage, packets)

    def _judge(self, timeline: Timeline, damage: Damage, packets: TrackPackets) -> None:
        """Warn of what is missing, or refuse the file for it."""
        findings, audio_s = self._findings, timeline.audio_s
        if damage.is_too_much:
            self.is_damaged = True
            raise UnreadableMedia("Too much of the file is damaged.")
        self._judge_length(audio_s, damage, packets)
        if self._strict and damage.any:
            raise UnreadableMedia("The file is damaged.")
        if not timeline.n_samples:
            raise UnreadableMedia(_NOTHING_DECODED)
        if damage.any:
            findings.warn("damaged", damage.detail(timeline.times.time_of))
        if timeline.gaps.total_s and not timeline.gaps.places.are_near(damage.places):
            findings.warn("gaps", timeline.gaps.detail(timeline.times.time_of))
        if self._layout.is_longer:
            findings.warn(
                "wrong_length",
                "The file holds more sound than its header says; all of it was transcribed.",
            )
        if timeline.cancelled_s:
            findings.warn(
                "channels_cancel",
                f"In {timeline.cancelled_s:.1f} s of the audio the channels cancel each other out, "
                "as one of them is inverted; there the louder one was transcribed.",
            )

    def _judge_length(self, audio_s: float, damage: Damage, packets: TrackPackets) -> None:
        """Warn of an end that is missing, or refuse the file if it is most of it."""
        missing_s = max(0.0, packets.declared_s - audio_s - damage.lost_s)
        if not packets.declared_s and self.missing_bytes > 0:
            present = self._reader.n_bytes
            missing_s = audio_s * self.missing_bytes / max(1, present)
        if missing_s <= _TRUNCATION_TOLERANCE_S:
            if self.missing_bytes > _MISSING_BYTES or self._is_cut(packets):
                if self._strict:
                    raise truncated()
                self._findings.warn("truncated", "The file is cut off: its end is missing.")
            return
        if packets.format == "flac" and packets.ends_whole and not damage.any:
            self._findings.warn(
                "wrong_length",
                f"The file's header says that it is {packets.declared_s:.1f} s long; it holds "
                f"{audio_s:.1f} s and is not cut off.",
            )
            return
        is_stale = packets.format == "mp3"  # cut by editors that leave the header as it was
        if self._strict or (not is_stale and audio_s < _LEAST_SHARE * (audio_s + missing_s)):
            raise truncated()
        where = f"its last {missing_s:.1f} s are missing"
        if damage.any and packets.ends_whole and not self.missing_bytes:
            where = f"{missing_s:.1f} s are missing, perhaps where it is damaged"
        self._findings.warn("truncated", f"The file holds less than its own header says: {where}.")

    def _is_cut(self, packets: TrackPackets) -> bool:
        """Return whether the file ends within a packet, where no header says how long it is."""
        if packets.format == "ogg":
            return ogg_is_cut(self._reader)
        if packets.format in ("mpeg", "mpegts") and mpeg_is_cut(self._reader):
            return True
        return packets.ends_cut


def _is_silent(block: Channels) -> bool:
    return bool((block <= _SILENT_PEAK).all() and (block >= -_SILENT_PEAK).all())


def _silence(n_channels: int, n_samples: int) -> Iterator[Channels]:
    for _ in range(0, n_samples, BLOCK_SAMPLES):
        yield np.zeros((n_channels, BLOCK_SAMPLES), np.int16)
