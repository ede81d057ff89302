"""A WAV of plain PCM is read as the decoder would read it; any other is left to the decoder."""

import io
import socket
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from shared.infra.decoder_server import DecoderServer, NoDecoder
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Channels
from worker.media.decode import decode
from worker.media.findings import Findings
from worker.media.plain import plain_samples, read_plain
from worker.media.read import read_audio
from worker.media.sandbox.client import Limits

SAMPLES = np.random.default_rng(7).integers(-9_000, 9_000, 2 * SAMPLE_RATE + 777, dtype=np.int16)


def wav(
    *,
    tag: int = 1,
    channels: int = 1,
    rate: int = SAMPLE_RATE,
    bits: int = 16,
    before: bytes = b"",
    data: bytes = SAMPLES.tobytes(),
    after: bytes = b"",
    data_size: int | None = None,
    riff_size: int | None = None,
) -> bytes:
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + before
    body += b"data" + struct.pack("<I", len(data) if data_size is None else data_size) + data
    body += after
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf61.7.100\0\0"


@pytest.mark.parametrize("before", [b"", LIST])
def test_a_plain_file_is_read_as_the_decoder_reads_it(before: bytes) -> None:
    data = wav(before=before)
    here, apart = Findings(), Findings()

    found = plain_samples(io.BytesIO(data), len(data))
    assert found is not None
    blocks = list(read_plain(io.BytesIO(data), *found, here))
    expected = list(decode(io.BytesIO(data), 60.0, findings=apart))

    assert [block.shape for block in blocks] == [block.shape for block in expected]
    np.testing.assert_array_equal(np.concatenate(blocks, 1), np.concatenate(expected, 1))
    assert here.warnings == apart.warnings == []
    assert here.times.time_of(SAMPLE_RATE) == apart.times.time_of(SAMPLE_RATE) == SAMPLE_RATE
    assert here.times.known_until >= len(SAMPLES)
    assert here.read_bytes == len(data)


@pytest.mark.parametrize(
    "data",
    [
        wav(tag=3, bits=32),
        wav(tag=0xFFFE),
        wav(channels=2),
        wav(rate=8_000),
        wav(bits=24),
        wav(data=b""),
        wav(data=b"abc"),
        wav(data_size=100),
        wav(data_size=0xFFFF_FFFF),
        wav(riff_size=0xFFFF_FFFF),
        wav(after=LIST),
        wav(before=b"fact" + struct.pack("<II", 4, 9)),
        wav(before=b"LIST" + struct.pack("<I", 1 << 20) + bytes(1 << 20)),
        wav(before=b"data" + struct.pack("<I", 2) + b"ab"),
        wav(before=b"fmt " + struct.pack("<I", 2) + b"ab"),
        wav()[:-1],
        wav() + b"\0",
        b"RIFX" + wav()[4:],
        b"ID3" + wav(),
        wav()[:40],
        b"RIFF",
        b"",
    ],
)
def test_anything_unusual_is_left_to_the_decoder(data: bytes) -> None:
    assert plain_samples(io.BytesIO(data), len(data)) is None


class NoServer(DecoderServer):
    def open(self, order: Mapping[str, Any]) -> socket.socket:
        raise NoDecoder("none here")


@pytest.mark.parametrize(("track", "audio_s"), [("0", 60.0), (None, 1.0)])
def test_only_a_plain_file_within_its_limits_needs_no_decoder(
    track: str | None, audio_s: float
) -> None:
    data, server = wav(), NoServer()

    def read(track: str | None, audio_s: float) -> list[Channels]:
        source, limits = io.BytesIO(data), Limits(audio_s, 10.0, 1 << 28)
        return [*read_audio(server, source, len(data), limits, track=track, findings=Findings())]

    assert len(read(None, 60.0)) == 3
    with pytest.raises(NoDecoder):
        read(track, audio_s)


def test_a_file_that_became_shorter_is_told() -> None:
    data = wav()
    found = plain_samples(io.BytesIO(data), len(data))
    assert found is not None

    with pytest.raises(EOFError):
        list(read_plain(io.BytesIO(data[:SAMPLE_RATE]), *found, Findings()))
