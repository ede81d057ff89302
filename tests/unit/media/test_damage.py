"""Damaged, joined and wrongly labelled files: what can be heard is heard, the rest is told."""

import struct

import numpy as np
import pytest
from test_cases import WORDS, due, hear, sound

from harness.media.recipes import Kind, at_rate, mux
from shared.infra.errors import TruncatedMedia
from shared.speech.audio.rate import SAMPLE_RATE
from worker.engines.oracle import encode, word_text

PCM = (sound()[0] * 32767).astype("<i2").tobytes()
HALF = len(PCM) // 4 * 2
FORM = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(data) if size is None else size) + data


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def id3(n_bytes: int, fill: bytes = b"\0") -> bytes:
    sizes = bytes(n_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + sizes + fill * n_bytes


def zeroed(data: bytes, start: int, n_bytes: int) -> bytes:
    return data[:start] + bytes(n_bytes) + data[start + n_bytes :]


def half(kind: Kind, index: int) -> bytes:
    """A file of one half of the words."""
    words = WORDS[: len(WORDS) // 2] if index == 0 else WORDS[len(WORDS) // 2 :]
    samples = at_rate(encode(words, 0.3)[0], kind.rate)[np.newaxis]
    return mux(kind, np.repeat(samples, kind.n_channels, axis=0))


def assert_all_at_their_times(data: bytes, off_s: float = 0.1) -> list[str]:
    heard, warnings = hear(data)
    late_s = 0.0
    assert heard.keys() == due().keys()
    for index, (text, start_s) in enumerate(due().items()):
        # The second file begins with the gap in front of its first word.
        late_s = heard[text] - start_s
        assert abs(late_s) <= off_s + (0.3 if index >= len(WORDS) // 2 else 0.0)
    return warnings


ODD = b"note" + struct.pack("<I", 7) + b"abcdefg"
WAVS = {
    "a tag in front": id3(300) + riff(chunk(b"fmt ", FORM), chunk(b"data", PCM)),
    "a large tag in front": id3(70_000, b"R") + riff(chunk(b"fmt ", FORM), chunk(b"data", PCM)),
    "an odd chunk, padded": riff(chunk(b"fmt ", FORM), ODD + b"\0", chunk(b"data", PCM)),
    "an odd chunk, not padded": riff(chunk(b"fmt ", FORM), ODD, chunk(b"data", PCM)),
    "an odd chunk in front": riff(ODD, chunk(b"fmt ", FORM), chunk(b"data", PCM)),
    "two data chunks": riff(
        chunk(b"fmt ", FORM), chunk(b"data", PCM[:HALF]), chunk(b"data", PCM[HALF:])
    ),
    "two data chunks apart": riff(
        chunk(b"fmt ", FORM), chunk(b"data", PCM[:HALF]), ODD + b"\0", chunk(b"data", PCM[HALF:])
    ),
    "two files": riff(chunk(b"fmt ", FORM), chunk(b"data", PCM[:HALF]))
    + riff(chunk(b"fmt ", FORM), chunk(b"data", PCM[HALF:])),
}


@pytest.mark.parametrize("name", WAVS)
def test_every_chunk_of_sound_of_a_wav_is_heard(name: str) -> None:
    heard, warnings = hear(WAVS[name])

    assert heard == pytest.approx(due(), abs=0.01)
    assert warnings == []


SIZES = {
    "w64": (b"data\xf3\xac", 16, "<Q", 24),
    "caf": (b"data", 4, ">Q", 4),
    "aiff": (b"SSND", 4, ">I", 8),
}


@pytest.mark.parametrize("muxer", SIZES)
def test_sound_after_the_length_that_a_header_declares_is_heard(muxer: str) -> None:
    data = (
        bytearray(mux(Kind(muxer, "pcm_s16be", SAMPLE_RATE), sound()))
        if muxer == "aiff"
        else (bytearray(mux(Kind(muxer, "pcm_s16le", SAMPLE_RATE), sound())))
    )
    name, offset, form, included = SIZES[muxer]
    struct.pack_into(form, data, data.index(name) + offset, included + HALF)

    heard, warnings = hear(bytes(data))

    assert heard == pytest.approx(due(), abs=0.01)
    assert warnings == ["wrong_length"]


@pytest.mark.parametrize("declared", [0, 1, 100_000, 350_000, 1_750_000, 60_000_000])
def test_a_flac_with_a_wrong_total_is_heard(declared: int) -> None:
    data = bytearray(mux(Kind("flac", "flac", SAMPLE_RATE), sound()))
    fields = struct.unpack_from(">Q", data, 18)[0]
    total = fields & ((1 << 36) - 1)
    struct.pack_into(">Q", data, 18, fields >> 36 << 36 | declared)

    heard, warnings = hear(bytes(data))

    assert heard == pytest.approx(due(), abs=0.01)
    assert warnings == (["wrong_length"] if declared > total else [])


def test_a_flac_that_is_cut_off_is_not_taken_for_one_with_a_wrong_total() -> None:
    data = mux(Kind("flac", "flac", SAMPLE_RATE), sound())

    assert "truncated" in hear(data[: len(data) * 7 // 10])[1]
    with pytest.raises(TruncatedMedia):
        hear(data[: len(data) * 3 // 10])


def test_flac_frames_after_damage_stay_at_their_times() -> None:
    for muxer in ("flac", "ogg"):
        data = mux(Kind(muxer, "flac", SAMPLE_RATE), sound())
        heard, warnings = hear(zeroed(data, len(data) // 2, len(data) // 12))

        assert len(WORDS) * 0.7 < len(heard) < len(WORDS)
        assert warnings in (["damaged"], ["gaps"])
        for text, start_s in heard.items():
            assert start_s == pytest.approx(due()[text], abs=0.01)


OPUS, VORBIS = Kind("ogg", "libopus", 48_000), Kind("ogg", "vorbis", 44_100, 2)
FLAC = Kind("ogg", "flac", SAMPLE_RATE)
CHAINS = [
    *[(VORBIS, VORBIS), (VORBIS, Kind("ogg", "vorbis", 22_050, 2)), (OPUS, OPUS)],
    *[(Kind("ogg", "vorbis", 22_050, 2), VORBIS), (OPUS, Kind("ogg", "libopus", 48_000, 2))],
    *[(OPUS, VORBIS), (VORBIS, OPUS), (FLAC, Kind("ogg", "flac", 44_100)), (FLAC, OPUS)],
]


@pytest.mark.parametrize(("first", "second"), CHAINS)
def test_chained_ogg_streams_of_any_rate_and_codec_are_heard(first: Kind, second: Kind) -> None:
    assert assert_all_at_their_times(half(first, 0) + half(second, 1)) == []


JOINED = [
    *[Kind("webm", "libopus", 48_000), Kind("webm", "libopus", 48_000, 1, False, {"live": "1"})],
    *[Kind("ipod", "aac", 44_100), Kind("mp3", "libmp3lame", 44_100), Kind("adts", "aac", 44_100)],
    *[Kind("flac", "flac", SAMPLE_RATE), Kind("wv", "wavpack", 44_100)],
    *[Kind("w64", "pcm_s16le", SAMPLE_RATE), Kind("caf", "pcm_s16le", SAMPLE_RATE)],
    *[Kind("aiff", "pcm_s16be", SAMPLE_RATE), Kind("mpegts", "aac", 44_100)],
]


@pytest.mark.parametrize("kind", JOINED)
def test_files_joined_end_to_end_are_heard_to_the_end(kind: Kind) -> None:
    assert_all_at_their_times(half(kind, 0) + half(kind, 1))


def test_a_picture_in_the_tag_of_a_joined_mp3_is_no_damage() -> None:
    kind = Kind("mp3", "libmp3lame", 44_100)
    picture = np.random.default_rng(2).bytes(150_000)
    tag = id3(len(picture))[:10] + picture

    assert assert_all_at_their_times(tag + half(kind, 0) + tag + half(kind, 1)) == []


DAMAGED = {
    "mkv": Kind("matroska", "aac", SAMPLE_RATE),
    "webm": Kind("webm", "libopus", 48_000),
    "ogg opus": OPUS,
    "ogg vorbis": VORBIS,
    "flv": Kind("flv", "libmp3lame", 44_100),
    "mpegts": Kind("mpegts", "aac", SAMPLE_RATE),
    "mpeg": Kind("mpeg", "mp2", 44_100),
    "avi": Kind("avi", "pcm_s16le", SAMPLE_RATE),
    "wv": Kind("wv", "wavpack", 44_100),
    "mp3": Kind("mp3", "libmp3lame", 44_100),
    "adts": Kind("adts", "aac", 44_100),
    "ac3": Kind("ac3", "ac3", 48_000),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_speech_that_damage_took_is_told_in_every_container(name: str) -> None:
    kind = DAMAGED[name]
    data = mux(kind, np.repeat(sound(kind.rate), kind.n_channels, axis=0))

    heard, warnings = hear(zeroed(data, len(data) // 2, len(data) // 8))

    assert len(WORDS) * 0.4 < len(heard) < len(WORDS)
    assert {"damaged", "gaps"} & {*warnings}


def test_a_cluster_that_cannot_be_found_is_told_as_a_gap_and_later_words_keep_their_times() -> None:
    data = mux(DAMAGED["webm"], sound(48_000))
    at = data.index(b"\x1f\x43\xb6\x75", len(data) // 3)

    heard, warnings = hear(zeroed(data, at, 12))

    assert warnings == ["gaps"]
    assert len(heard) < len(WORDS)
    for text, start_s in heard.items():
        assert start_s == pytest.approx(due()[text], abs=0.01)


CUT = ["mkv", "webm", "ogg opus", "ogg vorbis", "flv", "avi", "wv", "mp3"]


@pytest.mark.parametrize("name", CUT)
def test_a_cut_is_told_where_the_container_lets_it_be_known(name: str) -> None:
    kind = DAMAGED[name]
    data = mux(kind, np.repeat(sound(kind.rate), kind.n_channels, axis=0))

    heard, warnings = hear(data[: len(data) * 7 // 10 + 5])

    assert word_text(WORDS[0]) in heard
    assert len(heard) < len(WORDS)
    assert "truncated" in warnings
    with pytest.raises(TruncatedMedia):
        hear(data[: len(data) * 7 // 10 + 5], strict=True)
