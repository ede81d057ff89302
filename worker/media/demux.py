"""The packets of one stream, and the stamp of the start of their file."""

from collections.abc import Iterator
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream

from worker.media.reader import Reader

_FAILED_READS = 20
"""So many failures in a row to read a packet are the end of what can be read."""
_START_PACKETS = 2_000
_START_BYTES = 4 << 20
"""So much is read at most to find where the pictures start."""
_GUESSED_STARTS = frozenset({"asf", "avi", "flv", "matroska,webm", "mpeg", "mpegts"})
"""Demuxers that know a stream's start from its packets only. FFmpeg gives a video stream whose
codec it may not open, such as H.264, the start of the file's sound."""


def demux(
    container: InputContainer, stream: AudioStream, reader: Reader, *, from_zero: bool
) -> Iterator[tuple[float, "Packet[Any] | None"]]:
    """Yield a stream's packets, each with the stamp of the file's start.

    The file starts where its earliest stream starts, or at stamp 0 with ``from_zero`` if that is
    earlier. A read that fails yields None.
    """
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    origin_s = (container.start_time or 0) / av.time_base
    if from_zero:
        origin_s = min(0.0, origin_s)
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
        if unseen:
            for other in unseen:
                other.discard = Discard.all
            unseen.clear()
        if waiting:
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
