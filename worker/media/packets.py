"""The packets of one audio track, decoded; reading goes on where FFmpeg stops.

FFmpeg stops at a damaged fragment of an mp4 and at a damaged block of a WavPack file, fails on a
chained Ogg stream of another kind, and takes a tag between joined MP3 files for sound. There the
file is opened anew, from the next place that it can be read from.
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
from av.stream import Discard, Disposition, Stream

from shared.infra.errors import MediaError
from worker.media.container import STAMPED, declared_duration_s, open_container
from worker.media.headers import (
    is_fragmented,
    is_name,
    next_fragment,
    next_ogg_start,
    resumed_at,
)
from worker.media.reader import Part, Reader
from worker.media.timeline import check_bounds
from worker.media.tracks import audio_streams, describe

_MAX_PARTS = 1_000
"""So often a file is opened anew at most."""
_MAX_SKIPPED = 2
"""Fragments of an mp4 in a row that hold nothing of the track: the damaged one, and another."""
_FAILED_READS = 20
"""So many failures in a row to read a packet are the end of what can be read."""
_START_PACKETS = 2_000
_START_BYTES = 4 << 20
"""So much is read at most to find where the pictures start."""
_GUESSED_STARTS = frozenset({"asf", "avi", "flv", "matroska,webm", "mpeg", "mpegts"})
"""Demuxers that know a stream's start from its packets only. FFmpeg gives a video stream whose
codec it may not open, such as H.264, the start of the file's sound."""
_CONTIGUOUS = frozenset({"aac", "ac3", "avi", "dts", "eac3", "flac", "mp3"})
"""Demuxers of formats that are frames, or named chunks, and nothing else in files of one track."""
_FLAC_LATE = 32_768
_UNREAD_BYTES = 64
"""Less between two frames is padding."""
_WITHOUT_TAIL = frozenset({"flv", "mpeg", "mpegts"})
"""Demuxers of formats that have no index at the end."""
_TAIL_BYTES, _TAIL_SHARE = 8_192, 0.05
"""Less after the last packet is padding or a tag."""


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

    def __init__(
        self, reader: Reader, parts: tuple[Part, ...], track: str | None, candidate: int
    ) -> None:
        """Take ``candidate``: which of the tracks that can be tried is read; else the last one."""
        self._reader, self._parts = reader, list(parts)
        self._track, self._candidate = track, candidate
        self._fragmented = is_fragmented(reader)
        self._joined = len(parts) > 1
        self._end = 0
        """Where the packets read so far end, in the source."""
        self._next: Part | None = None
        """Where the file is to be opened anew."""
        self._chain_is_known = False
        self.several = ""
        """What the tracks are and which one is read, where there are several."""
        self.n_candidates = 0
        self.stamped = False
        """Whether packets have times of their own."""
        self.format = ""
        self.declared_s = 0.0
        self.ends_whole = True
        """Whether the last packet could be decoded."""
        self.unread_tail: tuple[int, int] | None = None
        """Bytes at the end of the source that could not be read."""

    def __iter__(self) -> Iterator[Decoded]:
        unread: tuple[int, int] | None = None
        origin_s: float | None = None
        n_skipped = 0
        for opened in range(_MAX_PARTS):
            if not self._parts:
                break
            part = self._parts.pop(0)
            restarts = opened > 0 and not self._fragmented
            self._reader.show(part)
            # Fragments have the same clock as those before them.
            origin_s = origin_s if self._fragmented else None
            try:
                container = open_container(self._reader)
                stream = self._choose(container)
            except MediaError:
                if not opened:
                    raise
                unread = unread or (part.start, part.end)
                continue
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
            if self._fragmented:
                n_skipped = 0 if unread is None else n_skipped + 1
                if n_skipped >= _MAX_SKIPPED:
                    return  # what was skipped last held nothing of this track
                after = self._end if unread is None else unread[1] + 1
                self._next = next_fragment(self._reader, after)
                unread = None if self._next is None else (self._end, resumed_at(self._next))
            elif self.format == "wv" and self._next is not None:
                is_tag = is_name(self._reader.at(self._end, 4))
                unread = None if is_tag else (self._end, self._next.start)
            if self._next is not None:
                self._parts.insert(0, self._next)
            self._reader.check()
        self.unread_tail = unread or self.unread_tail

    def _choose(self, container: InputContainer) -> AudioStream:
        self._next = None
        streams = audio_streams(container, self._track)
        stream = streams[min(self._candidate, len(streams) - 1)]
        check_bounds(stream.rate, stream.channels)
        if not self.format:
            self.format, self.n_candidates = container.format.name, len(streams)
            self.stamped = self.format in STAMPED or _is_numbered(container, stream)
            tracks = list(container.streams.audio)
            if not self._joined and not self._fragmented:
                self.declared_s = declared_duration_s(container, stream)
            if len(tracks) > 1:
                self.several = (
                    f"The file has {describe(tracks)}; track {tracks.index(stream)} "
                    "was transcribed."
                )
        return stream

    def _end_part(self, container: InputContainer) -> None:
        """Note what is left of the file."""
        if self._next is not None or self._joined:
            return
        n_bytes = self._reader.n_bytes
        is_left = n_bytes - self._end > max(_TAIL_BYTES, _TAIL_SHARE * n_bytes)
        if is_left and self.format in _WITHOUT_TAIL and len(container.streams) == 1:
            self.unread_tail = self._end, n_bytes

    def _packets(self, container: InputContainer, stream: AudioStream) -> Iterator[Decoded]:
        """Yield the decoded packets of a part, up to where the next one starts."""
        numbers = _FlacNumbers() if _is_numbered(container, stream) else None
        is_contiguous = self.format in _CONTIGUOUS
        n_packets = 0
        for origin_s, packet in _demux(container, stream, self._reader):
            if packet is None:
                self._look_for_next(self._end, 0)
                if self._next is not None:
                    return
                yield Decoded(None, is_read=False, origin_s=origin_s)
                continue
            decoded = _decode(packet)
            decoded.origin_s = origin_s
            if packet.pos is not None:
                start = self._reader.offset(packet.pos)
                if self._next is not None and start >= self._next.start:
                    return
                if decoded.frames is None:
                    self._look_for_next(self._end, start + packet.size - self._end)
                    if self._next is not None and self._next.start <= start + packet.size:
                        return
                if is_contiguous and n_packets and self._is_gap(start):
                    decoded.unread = self._end, start
                self._end = max(self._end, start + packet.size)
            if numbers is not None and decoded.frames:
                decoded.stamp_s = numbers.stamp_s(packet, decoded.frames[0])
            n_packets += 1
            yield decoded

    def _is_gap(self, start: int) -> bool:
        """Return whether there is something unknown between the last packet and ``start``."""
        if start - self._end <= _UNREAD_BYTES or is_name(
            self._reader.at(-(-self._end // 2) * 2, 4)
        ):
            return False
        # FFmpeg's FLAC parser goes on by itself with a file that was joined to another. The
        # positions that it gives may be some kilobytes late.
        around = self._reader.at(max(1, start - _FLAC_LATE), 2 * _FLAC_LATE)
        return self.format != "flac" or b"fLaC" not in around

    def _look_for_next(self, start: int, n_bytes: int) -> None:
        """Look for a place to open the file anew, as bytes from ``start`` on cannot be read."""
        if self._next is not None:
            return
        found: int | None = None
        if self.format == "ogg" and not self._chain_is_known:
            found = next_ogg_start(self._reader, max(1, start))
            self._chain_is_known = found is None
        elif self.format == "wv":
            found = self._reader.find(b"wvpk", start + 1)
        elif self.format in ("aac", "mp3"):
            before = max(1, start - 10)
            at = self._reader.at(before, n_bytes + 20).find(b"ID3")
            found = None if at < 0 else before + at
        if found is not None:
            self._next = Part(found, self._reader.n_bytes)


def _demux(
    container: InputContainer, stream: AudioStream, reader: Reader
) -> Iterator[tuple[float, "Packet[Any] | None"]]:
    """Yield a track's packets, or None for a failed read, with the stamp of the file's start.

    The file starts where its earliest stream starts.
    """
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    origin_s = (container.start_time or 0) / av.time_base
    waiting: list[Packet[Any] | None] = []
    unseen = _streams_without_start(container)
    for other in unseen:
        other.discard = Discard.default
    n_packets = n_bytes = n_failed = 0
    packets = container.demux([stream, *unseen])
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            packets = container.demux([stream, *unseen])
            n_failed += 1
            if n_failed > _FAILED_READS:
                break
            packet = None
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
            n_bytes += packet.size
        reader.check()
        n_packets += 1
        if unseen and n_packets < _START_PACKETS and n_bytes < _START_BYTES:
            waiting.append(packet)
            continue
        for other in unseen:
            other.discard = Discard.all
        unseen.clear()
        yield from ((origin_s, each) for each in waiting)
        waiting.clear()
        yield origin_s, packet
    reader.check()
    yield from ((origin_s, each) for each in waiting)


def _streams_without_start(container: InputContainer) -> list[Stream]:
    """Return the video streams whose first packet tells where they start."""
    if container.format.name not in _GUESSED_STARTS:
        return []
    return [
        found
        for found in container.streams.video
        if not found.disposition & Disposition.attached_pic
    ]


def _decode(packet: "Packet[Any]") -> Decoded:
    try:
        frames: list[Any] = packet.decode()
    except av.FFmpegError:
        duration_s = 0.0
        if packet.duration and packet.time_base:
            duration_s = float(packet.duration * packet.time_base)
        return Decoded(None, duration_s)
    return Decoded(frames)


def _is_numbered(container: InputContainer, stream: AudioStream) -> bool:
    """Return whether FLAC frames tell their times where the container does not, or late."""
    return container.format.name in ("flac", "ogg") and stream.codec_context.codec.name == "flac"


class _FlacNumbers:
    """Reads which sample a FLAC frame starts at from its header (RFC 9639, 9.1)."""

    def __init__(self) -> None:
        self._block = 0
        self._first = 0

    def stamp_s(self, packet: "Packet[Any]", frame: AudioFrame) -> float | None:
        """Return the time of a frame after that of the first one, in seconds."""
        head = bytes(memoryview(packet)[:11])
        if len(head) < 11 or head[0] != 0xFF or head[1] & 0xFC != 0xF8:
            return None
        first = head[4]
        n_more = 7 - (first ^ 0xFF).bit_length() if first >= 0x80 else 0  # coded as in UTF-8
        number = first & (0x7F >> (n_more + 1 if n_more else 0))
        for each in head[5 : 5 + n_more]:
            number = number << 6 | each & 0x3F
        if not self._block:
            self._block = frame.samples
            self._first = number
        number -= self._first
        return number * (1 if head[1] & 1 else self._block) / frame.sample_rate
