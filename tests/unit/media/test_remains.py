"""What is left of damaged, cut and joined files: it is heard at its time, and the rest is told."""

import io
import struct
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
import pytest
from test_cases import WORDS, due, hear, sound
from test_damage import (
    FORM,
    HALF,
    PCM,
    assert_all_at_their_times,
    chunk,
    half,
    riff,
    zeroed,
)

from harness.media.recipes import FRAGMENTED, Kind, mux
from shared.infra.errors import TruncatedMedia
from shared.speech.audio.rate import SAMPLE_RATE
from worker.engines.oracle import word_text

FMP4 = Kind("mp4", "aac", SAMPLE_RATE, muxer_options=FRAGMENTED)
M4A = Kind("ipod", "aac", 44_100)
FLV = Kind("flv", "aac", 44_100)
MKV = Kind("matroska", "aac", SAMPLE_RATE, muxer_options={"cluster_time_limit": "1000"})
TS = Kind("mpegts", "aac", SAMPLE_RATE)
PS = Kind("mpeg", "mp2", 44_100)
AMR = Kind("amr", "libopencore_amrnb", 8_000)


def flac(rate: int, n_channels: int = 1) -> Kind:
    return Kind("flac", "flac", rate, n_channels)


def made(kind: Kind) -> bytes:
    return mux(kind, np.repeat(sound(kind.rate), kind.n_channels, axis=0))


def noise(n_bytes: int) -> bytes:
    return np.random.default_rng(3).bytes(n_bytes)


JOINED = {
    "fragmented MP4s": (FMP4, FMP4),
    "a fragmented MP4 and one with an index": (FMP4, M4A),
    "an MP4 with an index and a fragmented one": (M4A, FMP4),
    "FLVs": (FLV, FLV),
    "FLACs of other rates": (flac(SAMPLE_RATE), flac(44_100)),
    "FLACs of other rates, the higher one first": (flac(44_100), flac(SAMPLE_RATE)),
    "FLACs of other channels": (flac(44_100), flac(44_100, 2)),
}


@pytest.mark.parametrize("name", JOINED)
def test_a_file_that_ffmpeg_would_not_go_on_with_is_heard(name: str) -> None:
    first, second = JOINED[name]

    # Encoders' priming, which fragments cannot declare, adds up.
    assert assert_all_at_their_times(half(first, 0) + half(second, 1), off_s=0.2) == []


def test_three_joined_fragmented_files_are_heard() -> None:
    silence = mux(FMP4, np.zeros((1, SAMPLE_RATE), np.float32))

    heard, _ = hear(half(FMP4, 0) + silence + half(FMP4, 1))

    assert len(heard) == len(WORDS)


def test_fragments_between_damage_and_a_joined_file_are_heard() -> None:
    first = bytearray(half(FMP4, 0))
    at = first.index(b"moof", len(first) // 2) - 4
    first[at : at + 8] = bytes(8)

    heard, warnings = hear(bytes(first) + half(FMP4, 1))

    assert "damaged" in warnings
    assert word_text(WORDS[len(WORDS) // 2 - 1]) in heard, "the last word of the first file"
    assert len(heard) >= len(WORDS) - 3


def test_both_chunks_of_sound_of_an_aiff_are_heard() -> None:
    data = np.frombuffer(PCM, "<i2").astype(">i2").tobytes()
    rate = bytes.fromhex("400cfa00000000000000")
    body = b"AIFFCOMM" + struct.pack(">IhIh", 18, 1, len(data) // 2, 16) + rate
    for part in (data[:HALF], data[HALF:]):
        body += b"SSND" + struct.pack(">I8x", len(part) + 8) + part

    heard, warnings = hear(b"FORM" + struct.pack(">I", len(body)) + body)

    assert heard == pytest.approx(due(), abs=0.01)
    assert warnings == []


def test_a_wav_of_sound_and_declared_silence_keeps_its_times() -> None:
    silence = chunk(b"slnt", struct.pack("<I", SAMPLE_RATE))
    sounds = b"wavl" + chunk(b"data", PCM[:HALF]) + silence + chunk(b"data", PCM[HALF:])

    heard, warnings = hear(riff(chunk(b"fmt ", FORM), chunk(b"LIST", sounds)))

    late_s = [heard[text] - start_s for text, start_s in due().items()]
    assert late_s == pytest.approx([0.0] * 10 + [1.0] * 10, abs=0.01)
    assert warnings == []


DAMAGED_STARTS: dict[str, Callable[[bytes, int, int], bytes]] = {
    "the first cluster's header": lambda data, first, _: zeroed(data, first, 12),
    "all of the first cluster": lambda data, first, second: zeroed(data, first, second - first),
    "noise": lambda data, first, second: data[:first] + noise(second - first) + data[second:],
}


@pytest.mark.parametrize("name", DAMAGED_STARTS)
def test_a_matroska_without_its_first_cluster_keeps_its_times(name: str) -> None:
    data = made(MKV)
    first = data.index(b"\x1f\x43\xb6\x75")
    second = data.index(b"\x1f\x43\xb6\x75", first + 4)

    heard, warnings = hear(DAMAGED_STARTS[name](data, first, second))

    assert "damaged" in warnings
    assert len(WORDS) - 3 < len(heard) < len(WORDS)
    for text, start_s in heard.items():
        assert start_s == pytest.approx(due()[text], abs=0.01)


def test_an_flv_without_its_first_tags_keeps_its_times() -> None:
    data = mux(Kind("flv", "libmp3lame", 44_100), sound(44_100))

    heard, warnings = hear(zeroed(data, 13, len(data) // 7))

    assert warnings == ["damaged"]
    assert len(WORDS) - 5 < len(heard) < len(WORDS)
    for text, start_s in heard.items():
        assert start_s == pytest.approx(due()[text], abs=0.05)


@pytest.mark.parametrize("kind", [TS, PS])
def test_a_stream_behind_noise_is_heard_and_the_noise_is_told(kind: Kind) -> None:
    data = made(kind)
    n_bytes = len(data) * 3 // 10

    heard, warnings = hear(noise(n_bytes) + data[n_bytes:])

    assert warnings == ["damaged"]
    assert len(WORDS) * 0.6 < len(heard) < len(WORDS)
    assert max(heard) == word_text(WORDS[-1])


CUT = [
    *[TS, PS, Kind("vob", "ac3", 48_000), Kind("ac3", "ac3", 48_000)],
    *[Kind("eac3", "eac3", 48_000), Kind("mpegts", "mp2", 44_100)],
]


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("share", [0.6, 0.61, 0.623])
def test_a_stream_that_ends_within_a_packet_is_told_as_cut_off(kind: Kind, share: float) -> None:
    data = made(kind)

    assert hear(data)[1] == []
    _, warnings = hear(data[: int(len(data) * share) // 4 * 4 + 1])

    assert "truncated" in warnings
    with pytest.raises(TruncatedMedia):
        hear(data[: int(len(data) * share) // 4 * 4 + 1], strict=True)


@pytest.mark.parametrize("n_bytes", [1, 7, 100, 501])
def test_amr_frames_are_found_again_where_bytes_are_missing(n_bytes: int) -> None:
    data = made(AMR)
    middle = len(data) // 2

    heard, warnings = hear(data[:middle] + data[middle + n_bytes :])

    assert warnings == ["damaged"]
    assert len(heard) >= len(WORDS) - 1
    for text, start_s in heard.items():
        assert start_s == pytest.approx(due()[text], abs=n_bytes / 1600 + 0.05)


def with_edits(data: bytes, *edits: tuple[int, int]) -> bytes:
    """Replace the edit list of an M4A: each edit has a length in ms, and where its sound starts."""
    at = data.index(b"elst") - 4
    n_bytes = int.from_bytes(data[at : at + 4], "big")
    entries = b"".join(struct.pack(">Iii", length, start, 0x10000) for length, start in edits)
    body = b"elst" + struct.pack(">II", 0, len(edits)) + entries
    edited = bytearray(data)
    edited[at : at + n_bytes] = struct.pack(">I", len(body) + 4) + body
    for name in (b"moov", b"trak", b"edts"):
        box = data.rindex(name, 0, at) - 4
        size = int.from_bytes(data[box : box + 4], "big") + len(body) + 4 - n_bytes
        struct.pack_into(">I", edited, box, size)
    return bytes(edited)


EDITS = {
    "silence first": ([(3000, -1), (11_000, 1024)], 20, 3.0),
    "the first two seconds left out": ([(9000, 1024 + 2 * SAMPLE_RATE)], 16, -2.0),
    "the end left out": ([(5000, 1024)], 9, 0.0),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_list_is_followed(name: str) -> None:
    edits, n_words, late_s = EDITS[name]

    heard, warnings = hear(with_edits(mux(Kind("ipod", "aac", SAMPLE_RATE), sound()), *edits))

    assert (len(heard), warnings) == (n_words, [])
    for text, start_s in heard.items():
        assert start_s == pytest.approx(due(late_s)[text], abs=0.02)


def test_a_transport_clock_that_wraps_moves_nothing() -> None:
    data = bytearray(made(TS))
    with av.open(io.BytesIO(bytes(data))) as container:
        assert container.streams.audio
    wrap = 1 << 33
    at = 0
    while (at := data.find(b"\0\0\1\xc0", at)) >= 0:
        if data[at + 7] & 0x80:
            raw = data[at + 9 : at + 14]
            stamp = (raw[0] >> 1 & 7) << 30 | (raw[1] << 7 | raw[2] >> 1) << 15
            stamp = (stamp | raw[3] << 7 | raw[4] >> 1) + wrap - 5 * 90_000
            stamp %= wrap
            data[at + 9 : at + 14] = bytes(
                [
                    *[raw[0] & 0xF0 | stamp >> 29 & 0xE | 1, stamp >> 22 & 0xFF],
                    *[stamp >> 14 & 0xFE | 1, stamp >> 7 & 0xFF, stamp << 1 & 0xFE | 1],
                ]
            )
        at += 4

    heard, warnings = hear(bytes(data))

    assert warnings == []
    assert heard == pytest.approx(due(0.064), abs=0.05)


def test_chapters_change_nothing() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        milliseconds = Fraction(1, 1000)
        container.set_chapters(
            [
                {"id": index, "start": start, "end": start + 5000, "time_base": milliseconds}
                | {"metadata": {"title": f"chapter {index}"}}
                for index, start in enumerate((0, 5000))
            ]
        )
        track = container.add_stream("aac", rate=SAMPLE_RATE)
        track.layout = "mono"
        frame = av.AudioFrame.from_ndarray(sound().copy(), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        container.mux(track.encode(frame))
        container.mux(track.encode(None))

    heard, warnings = hear(buffer.getvalue())

    assert heard == pytest.approx(due(), abs=0.01)
    assert warnings == []


def test_stamps_below_zero_are_times_like_others() -> None:
    buffer = io.BytesIO()
    options = {"avoid_negative_ts": "disabled"}
    with (
        av.open(io.BytesIO(made(M4A))) as source,
        av.open(buffer, "w", format="matroska", options=options) as target,
    ):
        copy = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.pts is not None and packet.time_base is not None:
                packet.pts = packet.dts = packet.pts - int(3 / packet.time_base)
                packet.stream = copy
                target.mux(packet)

    heard, warnings = hear(buffer.getvalue())

    assert heard == pytest.approx(due(0.023), abs=0.01)
    assert warnings == []
