"""Where the sound of a WAV that comes in begins."""

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest

from harness.media.recipes import wav
from worker.media.wav_stream import Head, RawSound, read_head

PLAIN = {"sample_rate": "16000", "ch_layout": "mono"}
HEAD = wav(np.zeros(8, np.int16), 16_000)[:44]


def read(data: bytes, at_once: int = 100) -> Head:
    stream = io.BytesIO(data)
    return read_head(lambda n_bytes: stream.read(min(n_bytes, at_once)))


def with_chunk(name: bytes, payload: bytes) -> bytes:
    padding = bytes(len(payload) % 2)
    return HEAD[:36] + name + struct.pack("<I", len(payload)) + payload + padding + HEAD[36:]


def form(tag: int, channels: int, bits: int, more: bytes = b"") -> bytes:
    frame_bytes = channels * bits // 8
    fields = struct.pack("<HHIIHH", tag, channels, 8_000, 8_000 * frame_bytes, frame_bytes, bits)
    size = struct.pack("<I", len(fields + more))
    return b"RIFF\0\0\0\0WAVEfmt " + size + fields + more + b"data\xff\xff\xff\xff"


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_the_sound_begins_right_after_the_head(at_once: int) -> None:
    head = read(HEAD + b"sound", at_once)

    assert head == Head(RawSound("s16le", PLAIN, 16), HEAD)


@pytest.mark.parametrize("n_bytes", [0, 0x7FFF_F000, 0x8000_0000, 0xFFFF_FFFF])
def test_sound_of_a_length_that_nobody_knew_lasts_as_long_as_the_stream(n_bytes: int) -> None:
    head = read(HEAD[:40] + struct.pack("<I", n_bytes))

    assert head.sound == RawSound("s16le", PLAIN, None)


def test_other_chunks_before_the_sound_are_skipped() -> None:
    data = with_chunk(b"LIST", b"a name")
    odd = with_chunk(b"LIST", b"a name.")

    assert read(data) == Head(RawSound("s16le", PLAIN, 16), data)
    assert read(odd) == Head(RawSound("s16le", PLAIN, 16), odd)


@pytest.mark.parametrize(
    ("data", "demuxer", "layout"),
    [
        (form(7, 1, 8), "mulaw", "mono"),
        (form(6, 2, 8), "alaw", "stereo"),
        (form(1, 1, 24), "s24le", "mono"),
        (form(3, 1, 32), "f32le", "mono"),
        (form(0xFFFE, 1, 16, struct.pack("<HHIH", 22, 16, 4, 1) + bytes(14)), "s16le", "mono"),
    ],
)
def test_every_usual_form_has_its_demuxer(data: bytes, demuxer: str, layout: str) -> None:
    assert read(data).sound == RawSound(demuxer, {"sample_rate": "8000", "ch_layout": layout}, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"OggS" + data[4:],
        lambda data: data[:30],
        lambda data: data[:20] + b"\x55\0" + data[22:],  # MP3
        lambda data: data[:22] + b"\6\0" + data[24:],  # six channels
        lambda data: data[:12] + data[36:],  # no form
        lambda data: data[:24] + bytes(4) + data[28:],  # no rate
        lambda data: with_chunk(b"LIST", bytes(1 << 17)),
        lambda data: b"",
    ],
)
def test_what_is_unusual_is_left_to_ffmpeg_with_all_that_was_read(
    change: Callable[[bytes], bytes],
) -> None:
    data = change(HEAD + bytes(100))
    head = read(data)

    assert head.sound is None
    assert data.startswith(head.data)
