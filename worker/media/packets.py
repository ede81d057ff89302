"""The decoded packets of one audio track, from the first readable byte of a source to the last.

FFmpeg stops at a damaged fragment of an MP4, a damaged block of a WavPack and the second of two
joined FLVs, fails at a chained Ogg stream of another kind, and takes a tag between joined MP3 files
for sound. There the source is opened anew at the next place that it can be read from.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from shared.infra.errors import MediaError, NoAudioTrack
from worker.media.container import STAMPED, declared_duration_s, open_container
from worker.media.demux import demux
from worker.media.headers.chunked import is_name
from worker.media.headers.flac import FlacNumbers
from worker.media.headers.flv import next_flv
from worker.media.headers.frames import (
    AMR_MAGIC_BYTES,
    HEAD_BYTES,
    amr_magic,
    frame_bytes,
    is_amr_frame,
)
from worker.media.headers.mp4 import first_fragment, next_fragment, next_mp4, resumed_at
from worker.media.headers.mpegts import next_mpeg
from worker.media.reader import Layout, Part, Reader
from worker.media.resume import is_damage, resume
from worker.media.timeline import check_bounds
from worker.media.tracks import audio_streams, describe

_MAX_PARTS = 1_000
"""A source is opened anew no more often."""
_MAX_SKIPPED = 2
"""Fragments of an MP4 in a row that hold nothing of the track: the damaged one, and another."""
_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
_CONTIGUOUS = frozenset({"aac", "ac3", "avi", "dts", "eac3", "flac", "mp3"})
"""Demuxers of formats that are frames, or named chunks, and nothing else in files of one track."""
_FRAMED = frozenset({"aac", "ac3", "eac3", "mp3", "mpeg", "mpegts"})
"""Demuxers of formats whose packets are frames with heads."""
_WITHOUT_TAIL = frozenset({"flv", "mpeg", "mpegts"})
"""Demuxers of formats that have no index at the end."""
_TAIL_BYTES, _TAIL_SHARE = 8_192, 0.05
"""Less after the last packet is padding or a tag."""
_MOST_DAMAGED_S = 60.0
"""A file whose first packets are damaged starts at 0 if the first readable one is no later."""


@dataclass(slots=True)
class Decoded:
    """A packet of the track: its frames, or None where it cannot be decoded or read."""

    frames: list[AudioFrame] | None
    duration_s: float = 0.0
    """Of one that cannot be decoded, as the container has it; 0 where it does not say."""
    stamp_s: float | None = None
    """Time of the first frame, where the packet itself says it and FFmpeg does not."""
    is_read: bool = True
    origin_s: float = 0.0
    """The stamp of the start of its file."""
    restarts: bool = False
    """Whether it is the first one of a file that was joined to another: stamps start anew."""
    unread: tuple[int, int] | None = None
    """Bytes of the source in front of it that could not be read."""


class TrackPackets:
    """Reads a track of a source, part by part. Attributes are complete after the last packet."""

    def __init__(self, reader: Reader, layout: Layout, track: str | None, candidate: int) -> None:
        """Choose a track.

        Args:
            reader: of the source.
            layout: the source's parts.
            track: number or language of the track; None: any.
            candidate: which of the tracks that match is read; the last one if there are fewer.
        """
        self._reader, self._parts = reader, list(layout.parts)
        self._damaged_at = layout.damaged_at
        self._track, self._candidate = track, candidate
        self._is_joined = len(layout.parts) > 1
        self._start = 0
        """Where the file that is read starts, in the source."""
        self._is_fragmented = False
        self._end = 0
        """Where the packets read so far end, in the source."""
        self._next: Part | None = None
        """Where the source is to be opened anew."""
        self._is_last_chain = False
        self._is_searched = False
        """Whether an MPEG stream was looked for behind damage."""
        self.several = ""
        """What the tracks are and which one is read, where there are several."""
        self.n_candidates = 0
        self.stamped = False
        """Whether packets have times of their own."""
        self.format = ""
        self.declared_s = 0.0
        self.ends_whole = True
        """Whether the last packet could be decoded."""
        self.ends_cut = False
        """Whether the last packet is shorter than it says."""
        self.unread_tail: tuple[int, int] | None = None
        """Bytes at the end of the source that could not be read."""

    def __iter__(self) -> Iterator[Decoded]:
        unread: tuple[int, int] | None = None
        origin_s: float | None = None
        n_skipped = 0
        for _ in range(_MAX_PARTS):
            if not self._parts:
                break
            part = self._parts.pop(0)
            restarts = bool(self.format) and not part.continues
            if not part.continues:
                origin_s, n_skipped = None, 0
                self._start = part.start
                self._is_fragmented = first_fragment(self._reader, part.start) is not None
            opened = self._open(part)
            if opened is None:
                unread = unread or (part.start, part.end if self.format else self._parts[0].start)
                continue
            container, stream = opened
            with closing(container):
                for decoded in self._packets(container, stream):
                    if decoded.frames:
                        decoded.unread, unread = unread or decoded.unread, None
                        decoded.restarts, restarts = restarts, False
                    if decoded.frames != []:  # FFmpeg's delay at the start, and its flush
                        self.ends_whole = decoded.frames is not None
                    origin_s = decoded.origin_s = decoded.origin_s if origin_s is None else origin_s
                    yield decoded
                self._end_part(container)
            if self._is_fragmented:
                n_skipped = 0 if unread is None else n_skipped + 1
                after = self._end if unread is None else unread[1] + 1
                fragment = next_fragment(self._reader, self._start, after)
                at = None if fragment is None else resumed_at(fragment)
                if self._next is not None and (at is None or at > self._next.start):
                    unread = None  # the next file is joined to this one
                elif n_skipped >= _MAX_SKIPPED:
                    return  # what was skipped last held nothing of this track
                else:
                    self._next = fragment
                    unread = None if at is None else (self._end, at)
            elif self.format in ("amr", "wv") and self._next is not None:
                is_tag = self.format == "wv" and is_name(self._reader.at(self._end, 4))
                unread = None if is_tag else (self._end, self._next.start)
            if self._next is not None:
                self._parts.insert(0, self._next)
            self._reader.check()
        self.unread_tail = unread or self.unread_tail

    def _open(self, part: Part) -> tuple[InputContainer, AudioStream] | None:
        """Open a part and choose its track; None if that cannot be done.

        If the source cannot be opened at all, it may be an MPEG stream behind damage: what is
        behind it is the next part then.
        """
        self._reader.show(part)
        try:
            container = open_container(self._reader)
            try:
                return container, self._choose(container)
            except MediaError:
                container.close()
                raise
        except MediaError as error:
            if self.format:
                return None
            if self._is_searched or isinstance(error, NoAudioTrack):
                raise
            self._is_searched = True
            found = next_mpeg(self._reader, part.start + 1)
            self._reader.check()
            if found is None:
                raise
            self._parts.insert(0, Part(found, part.end))
            return None

    def _choose(self, container: InputContainer) -> AudioStream:
        """Return the track that is read, of a part that was just opened."""
        self._next = None
        streams = audio_streams(container, self._track)
        stream = streams[min(self._candidate, len(streams) - 1)]
        check_bounds(stream.rate, stream.channels)
        if not self.format:
            self.format, self.n_candidates = container.format.name, len(streams)
            self.stamped = self.format in STAMPED or _is_numbered(container, stream)
            tracks = list(container.streams.audio)
            if not self._is_joined and not self._is_fragmented:
                self.declared_s = declared_duration_s(container, stream)
            if len(tracks) > 1:
                self.several = (
                    f"The file has {describe(tracks)}; track {tracks.index(stream)} "
                    "was transcribed."
                )
        return stream

    def _end_part(self, container: InputContainer) -> None:
        """Look for what follows the last packet of a part."""
        if self._next is not None or self._is_joined:
            return
        n_bytes = self._reader.n_bytes
        is_left = n_bytes - self._end > max(_TAIL_BYTES, _TAIL_SHARE * n_bytes)
        if self._is_fragmented:
            self._find_next_mp4(n_bytes)
        elif self.format == "flv":
            found = next_flv(self._reader, max(self._end, self._start + 1))
            self._next = None if found is None else Part(found, n_bytes)
        is_alone = len(container.streams) == 1
        if self._next is None and is_left and is_alone and self.format in _WITHOUT_TAIL:
            self.unread_tail = self._end, n_bytes

    def _packets(self, container: InputContainer, stream: AudioStream) -> Iterator[Decoded]:
        """Yield the decoded packets of a part, up to where the next one starts."""
        numbers = FlacNumbers() if _is_numbered(container, stream) else None
        is_contiguous = self.format in _CONTIGUOUS
        amr = amr_magic(self._reader.at(self._start, AMR_MAGIC_BYTES))
        n_packets, last_stamp_s = 0, 0.0
        last_dts: int | None = None
        last: Packet[Any] | None = None
        # An edit list may begin with silence, so the clock of an indexed MP4 starts at 0.
        from_zero = self.format == _MP4 and not self._is_fragmented
        for origin_s, packet in demux(container, stream, self._reader, from_zero=from_zero):
            if packet is None:
                self._look_for_next(self._end, 0)
                if self._next is not None:
                    return
                yield Decoded(None, is_read=False, origin_s=origin_s)
                continue
            decoded = _decode(packet)
            if amr and packet.size and not is_amr_frame(amr, memoryview(packet)[0]):
                decoded.frames = None
            if numbers is not None and decoded.frames:
                decoded.stamp_s = numbers.stamp_s(memoryview(packet), decoded.frames[0])
            decoded.origin_s = origin_s
            if packet.pos is not None:
                start = self._reader.offset(packet.pos)
                if self._is_fragmented and packet.dts is not None:
                    if last_dts is not None and packet.dts < last_dts:
                        self._find_next_mp4(start)
                    last_dts = packet.dts
                if self.format == "flac" and decoded.stamp_s is not None and decoded.frames:
                    if decoded.stamp_s < last_stamp_s or len(decoded.frames) > 1:
                        # The parser went on into a file that was joined to this one.
                        self._look_for_next(start, 0)
                        if self._next is not None:
                            if decoded.stamp_s > last_stamp_s:
                                decoded.frames = decoded.frames[:1]
                                yield decoded
                            return
                    last_stamp_s = decoded.stamp_s
                if self._next is not None and start >= self._next.start:
                    return
                if decoded.frames is None:
                    self._look_for_next(self._end, start + packet.size - self._end)
                    if self._next is not None and self._next.start <= start + packet.size:
                        return
                if self._damaged_at is not None:
                    decoded.unread, self._damaged_at = (self._damaged_at, start), None
                    if origin_s <= _MOST_DAMAGED_S:
                        decoded.origin_s = 0.0
                if is_contiguous and n_packets and self._is_damage_before(start):
                    decoded.unread = self._end, start
                self._end = max(self._end, start + packet.size)
            n_packets += 1
            last = packet if packet.size else last
            yield decoded
        self.ends_cut = last is not None and self.format in _FRAMED and _is_cut(last)

    def _is_damage_before(self, start: int) -> bool:
        return is_damage(self._reader, self.format, self._end, start)

    def _find_next_mp4(self, before: int) -> None:
        """Look for a joined file between the last packet and ``before``."""
        found = next_mp4(self._reader, max(self._end, self._start + 1), before)
        if found is not None:
            self._next = Part(found, self._reader.n_bytes)

    def _look_for_next(self, start: int, n_bytes: int) -> None:
        """Look for a place to open the source anew, as bytes from ``start`` on cannot be read."""
        if self._next is None and not self._is_last_chain:
            self._next = resume(self._reader, self.format, self._start, start, n_bytes)
            # The search reads all that is left of an Ogg, so it is made once.
            self._is_last_chain = self.format == "ogg" and self._next is None


def _decode(packet: "Packet[Any]") -> Decoded:
    try:
        frames: list[Any] = packet.decode()
    except av.FFmpegError:
        duration_s = 0.0
        if packet.duration and packet.time_base:
            duration_s = float(packet.duration * packet.time_base)
        return Decoded(None, duration_s)
    return Decoded(frames)


def _is_cut(packet: "Packet[Any]") -> bool:
    """Return whether a packet is shorter than the frame in it says."""
    return frame_bytes(bytes(memoryview(packet)[:HEAD_BYTES])) > packet.size


def _is_numbered(container: InputContainer, stream: AudioStream) -> bool:
    """Return whether FLAC frames tell their times where the container does not, or late."""
    return container.format.name in ("flac", "ogg") and stream.codec_context.codec.name == "flac"
