"""Decoding: what comes out of good files, and how bad ones fail. All media is made here."""

import collections
import io
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest

from harness.media.recipes import KINDS, encode, mux, noise, wav
from shared.infra.errors import (
    AudioTooLong,
    MediaError,
    NoAudioTrack,
    StorageUnavailable,
    TruncatedMedia,
    UnreadableMedia,
)
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm
from worker.media.decode import decode
from worker.media.findings import Findings
from worker.media.timeline import BLOCK_SAMPLES

MAX_DURATION_S = 3600
WITH_PICTURES = [name for name, kind in KINDS.items() if kind.has_pictures]


def random_pcm(duration_s: float) -> Pcm:
    return (noise(duration_s, SAMPLE_RATE) * 32767).astype(np.int16)


def decode_all(data: bytes, max_duration_s: float = MAX_DURATION_S) -> Pcm:
    return np.concatenate(list(decode(io.BytesIO(data), max_duration_s)), axis=1)[0]


def test_pcm_at_our_own_rate_comes_out_bit_for_bit() -> None:
    pcm = random_pcm(2.5)

    assert np.array_equal(decode_all(wav(pcm)), pcm)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 192_000])
def test_resampling_keeps_level_and_length(rate: int) -> None:
    t = np.arange(2 * rate) / rate
    tone = (10_000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)

    samples = decode_all(wav(tone, rate))

    assert abs(len(samples) - 2 * SAMPLE_RATE) <= 1
    expected = 10_000 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / SAMPLE_RATE)
    assert np.abs(samples - expected)[500:-500].max() < 100


@pytest.mark.parametrize("channels", [2, 3, 4, 6, 8])
def test_every_channel_is_heard_equally(channels: int) -> None:
    for heard in range(channels):
        audio = np.zeros((8000, channels), np.int16)
        audio[:, heard] = 12_000

        samples = decode_all(wav(audio, 16_000, channels))

        assert samples[4000] == pytest.approx(12_000 / channels, abs=1)


def test_blocks_are_one_second_and_memory_stays_flat() -> None:
    def peak_bytes(duration_s: int) -> int:
        source = io.BytesIO(wav(np.zeros(duration_s * 4000, np.int16), 4000))
        tracemalloc.start()
        lengths = [block.shape[1] for block in decode(source, MAX_DURATION_S)]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert set(lengths[:-1]) == {BLOCK_SAMPLES}
        assert 0 < lengths[-1] <= BLOCK_SAMPLES
        return peak

    peak_bytes(5)  # imports and caches
    assert peak_bytes(120) < peak_bytes(20) + 200_000


@pytest.mark.parametrize("name", WITH_PICTURES)
def test_sound_that_starts_late_in_a_video_keeps_its_offset(name: str) -> None:
    rate, n_channels = KINDS[name].rate, KINDS[name].n_channels
    sound = np.tile(noise(1, rate), (n_channels, 1))

    samples = decode_all(encode(name, sound, audio_offset_s=1.5))

    onset_s = np.flatnonzero(np.abs(samples.astype(int)) > 1000)[0] / SAMPLE_RATE
    assert onset_s == pytest.approx(1.5, abs=0.07)
    assert len(samples) / SAMPLE_RATE == pytest.approx(2.5, abs=0.1)


@pytest.mark.parametrize("name", WITH_PICTURES)
def test_video_without_sound_has_no_audio_track(name: str) -> None:
    with pytest.raises(NoAudioTrack):
        decode_all(mux(KINDS[name], audio=None))


def test_damage_in_the_middle_is_skipped_and_later_sound_stays_in_place() -> None:
    audio = noise(10, 16_000)
    audio[8 * 16_000 : 8 * 16_000 + 800] = 0.9
    data = bytearray(encode("ogg flac", audio[np.newaxis]))
    start = len(data) // 2
    data[start : start + 9000] = np.random.default_rng(4).bytes(9000)

    samples = decode_all(bytes(data))

    assert len(samples) == pytest.approx(10 * SAMPLE_RATE, abs=1600)
    assert np.flatnonzero(samples > 25_000)[0] == pytest.approx(8 * SAMPLE_RATE, abs=1600)


def test_a_few_damaged_mp3_frames_do_not_fail_the_file() -> None:
    data = bytearray(encode("mp3", np.tile(noise(10, 44_100), (2, 1))))
    for position in (40_000, 80_000, 120_000):
        data[position : position + 600] = bytes(600)

    assert len(decode_all(bytes(data))) / SAMPLE_RATE == pytest.approx(10, abs=1)


def test_a_file_damaged_all_over_is_unreadable() -> None:
    data = bytearray(encode("m4a"))
    for position in range(1000, len(data) * 3 // 4, 60):
        data[position : position + 8] = b"\xff" * 8

    with pytest.raises(UnreadableMedia):
        decode_all(bytes(data))


CUT_NOTICED = [
    *("wav s16", "rf64", "w64", "aiff", "au", "caf", "caf alac", "flac"),
    *("m4a", "m4a alac", "mov with pictures", "mkv aac", "webm opus"),
]

INDEX_AT_THE_END = {"caf alac", "m4a", "m4a alac", "mov with pictures"}


@pytest.mark.parametrize("name", CUT_NOTICED)
def test_a_file_with_less_than_half_of_its_sound_is_refused(name: str) -> None:
    data = encode(name)

    with pytest.raises(TruncatedMedia):
        decode_all(data[: int(len(data) * 0.3)])


@pytest.mark.parametrize("name", sorted({*CUT_NOTICED} - INDEX_AT_THE_END))
def test_a_file_cut_off_near_its_end_is_heard_with_a_warning_or_refused_if_strict(
    name: str,
) -> None:
    data = encode(name)[: int(len(encode(name)) * 0.6)]
    findings = Findings()

    samples = np.concatenate(list(decode(io.BytesIO(data), 60, findings=findings)), axis=1)[0]

    assert len(samples) / SAMPLE_RATE == pytest.approx(2.4, abs=0.3)
    (warning,) = (found for found in findings.warnings if found.code == "truncated")
    missing_s = float(warning.detail.split("last ")[1].split(" s")[0])
    assert missing_s == pytest.approx(1.6, abs=0.3)
    with pytest.raises(TruncatedMedia):
        list(decode(io.BytesIO(data), 60, strict=True))


@pytest.mark.parametrize("name", sorted(INDEX_AT_THE_END))
def test_a_file_without_its_index_is_refused(name: str) -> None:
    data = encode(name)

    with pytest.raises(TruncatedMedia):
        decode_all(data[: int(len(data) * 0.6)])


def test_a_cut_mp4_with_its_index_in_front_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "front.mp4"
    with (
        av.open(io.BytesIO(encode("m4a"))) as whole,
        av.open(str(path), "w", options={"movflags": "faststart"}) as container,
    ):
        track = container.add_stream_from_template(whole.streams.audio[0])
        for packet in whole.demux(whole.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = track
                container.mux(packet)
    data = path.read_bytes()

    with pytest.raises(TruncatedMedia):
        decode_all(data[: len(data) // 2])


@pytest.mark.parametrize("name", ["mp3", "adts", "amr", "ogg opus", "mpegts"])
def test_a_cut_in_a_format_without_a_declared_length_is_accepted(name: str) -> None:
    data = encode(name)

    assert len(decode_all(data[: len(data) * 3 // 4])) > SAMPLE_RATE


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wav_written_into_a_pipe_is_read_to_its_end(size: int) -> None:
    pcm = random_pcm(1.5)

    assert np.array_equal(decode_all(wav(pcm, size=size)), pcm)


def test_the_limit_counts_decoded_audio() -> None:
    data = wav(np.zeros(10 * SAMPLE_RATE, np.int16), size=0)
    blocks = decode(io.BytesIO(data), 4)

    assert [next(blocks).shape[1] for _ in range(4)] == 4 * [BLOCK_SAMPLES]
    with pytest.raises(AudioTooLong):
        collections.deque(blocks, maxlen=0)
    assert len(decode_all(data, 10)) == 10 * SAMPLE_RATE


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde" + bytes(50)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abc",
        b"<html><body>404 Not Found</body></html>",
        b"It was a bright cold day in April.\n" * 500,
        np.random.default_rng(3).bytes(300_000),
        bytes(100_000),
        PNG,
        wav(np.zeros(0, np.int16)),
        b"ID3\x04\0\0\0\0\0\x0a" + bytes(2000),
    ],
    ids=[
        "empty",
        "3 bytes",
        "html",
        "text",
        "random",
        "zeros",
        "png",
        "wav without samples",
        "id3",
    ],
)
def test_what_is_not_audio_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableMedia):
        decode_all(data)


def test_a_picture_is_refused_by_its_format_not_for_want_of_sound() -> None:
    """Proof that the list of formats is in force: FFmpeg by itself opens a PNG as a video."""
    with pytest.raises(UnreadableMedia, match="not audio or video in a supported format"):
        decode_all(PNG)


def test_pictures_of_a_video_are_never_decoded() -> None:
    data = encode("mkv with pictures")
    previous = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as log:
            decode_all(data)
    finally:
        av.logging.set_level(previous)

    assert any("(mpeg4) not on whitelist" in message for _, _, message in log)


class FailingFile(io.BytesIO):
    """Storage that goes away after some bytes."""

    def __init__(self, data: bytes, fails_at: int) -> None:
        super().__init__(data)
        self._fails_at = fails_at

    def read(self, n_bytes: int | None = -1, /) -> bytes:
        if self.tell() >= self._fails_at:
            raise StorageUnavailable("The object store is gone.")
        return super().read(n_bytes)


@pytest.mark.parametrize("name", ["wav s16", "mp3", "flac", "m4a", "ogg opus"])
@pytest.mark.parametrize("fails_at", [100, 80_000])
def test_a_storage_outage_is_not_mistaken_for_the_end_of_the_file(name: str, fails_at: int) -> None:
    kind = KINDS[name]
    data = encode(name, np.tile(noise(20, kind.rate), (kind.n_channels, 1)))
    assert len(data) > fails_at

    with pytest.raises(StorageUnavailable):
        list(decode(FailingFile(data, fails_at), MAX_DURATION_S))


@pytest.mark.parametrize("name", ["flac", "m4a", "ogg opus"])
def test_messages_are_one_sentence_and_nothing_reaches_stderr(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(encode(name))
    data[len(data) // 4 :: 97] = b"\xff" * len(data[len(data) // 4 :: 97])
    path = tmp_path / "secret-name"
    path.write_bytes(data[:-100])

    with path.open("rb") as source:
        try:
            list(decode(source, MAX_DURATION_S))
        except MediaError as error:
            message = str(error)
            assert message.endswith(".")
            assert "secret" not in message
            assert "\n" not in message

    assert capfd.readouterr() == ("", "")
