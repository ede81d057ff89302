"""Decoding: what comes out of good files, and how bad ones fail. All media is made here."""

import collections
import errno
import io
import os
import socket
import struct
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from shared.errors import (
    AudioOutOfBounds,
    AudioTooLong,
    MediaError,
    NoAudioTrack,
    StorageUnavailable,
    TruncatedMedia,
    UnreadableMedia,
)
from worker.audio import SAMPLE_RATE, Pcm
from worker.decode import BLOCK_SAMPLES, FORMATS, DecodeLimits, decode

LIMITS = DecodeLimits(max_duration_s=3600)
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}

# name: (muxer, encoder, rate, channels, muxer options, how late audio comes without an edit list)
FILES: dict[str, tuple[str, str, int, int, dict[str, str], float]] = {
    "wav": ("wav", "pcm_s16le", 44_100, 2, {}, 0),
    "wav 8 kHz mu-law": ("wav", "pcm_mulaw", 8_000, 1, {}, 0),
    "wav 24 bit": ("wav", "pcm_s24le", 48_000, 1, {}, 0),
    "rf64": ("wav", "pcm_s16le", 16_000, 1, {"rf64": "always"}, 0),
    "w64": ("w64", "pcm_s16le", 16_000, 1, {}, 0),
    "aiff": ("aiff", "pcm_s16be", 44_100, 1, {}, 0),
    "au": ("au", "pcm_s16be", 16_000, 1, {}, 0),
    "caf": ("caf", "pcm_s16le", 16_000, 1, {}, 0),
    "caf alac": ("caf", "alac", 16_000, 1, {}, 0),
    "flac": ("flac", "flac", 96_000, 2, {}, 0),
    "ogg flac": ("ogg", "flac", 16_000, 1, {}, 0),
    "ogg opus": ("ogg", "libopus", 48_000, 2, {}, 0),
    "webm opus": ("webm", "libopus", 48_000, 1, {}, 0),
    "matroska aac": ("matroska", "aac", 16_000, 1, {}, 0),
    "mp3": ("mp3", "libmp3lame", 44_100, 2, {}, 0),
    "m4a": ("ipod", "aac", 44_100, 2, {}, 0),
    "m4a alac": ("ipod", "alac", 44_100, 1, {}, 0),
    "mov": ("mov", "aac", 48_000, 1, {}, 0),
    "fragmented mp4": ("mp4", "aac", 16_000, 1, FRAGMENTED, 1024 / 16_000),
    "adts": ("adts", "aac", 16_000, 1, {}, 1024 / 16_000),
    "mpegts": ("mpegts", "aac", 16_000, 1, {}, 1024 / 16_000),
    "amr": ("amr", "libopencore_amrnb", 8_000, 1, {}, 0),
}


def add_audio(container: Any, encoder: str, rate: int, channels: int) -> Any:
    return container.add_stream(encoder, rate=rate, layout={1: "mono", 2: "stereo"}[channels])


def mux_audio(container: Any, stream: Any, audio: npt.NDArray[np.int16], offset_s: float) -> None:
    """``audio`` has shape (n_channels, n_samples)."""
    layout = {1: "mono", 2: "stereo"}[len(audio)]
    for start in range(0, audio.shape[1], 1000):
        interleaved = np.ascontiguousarray(audio[:, start : start + 1000].T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=layout)
        frame.sample_rate = stream.rate
        frame.time_base = Fraction(1, stream.rate)
        frame.pts = start + int(offset_s * stream.rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def encode(name: str, audio: npt.NDArray[np.int16] | None = None) -> bytes:
    """Make a file of the kind ``name``; by default of 4 s."""
    muxer, encoder, rate, channels, options, _ = FILES[name]
    if audio is None:
        audio = np.tile(noise(4, rate), (channels, 1))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer, options=options) as container:
        mux_audio(container, add_audio(container, encoder, rate, channels), audio, 0)
    return buffer.getvalue()


def make_video(muxer: str, audio_offset_s: float | None) -> bytes:
    """Two seconds of tiny pictures, and one second of noise that starts at ``audio_offset_s``."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer) as container:
        video: Any = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        audio = add_audio(container, "aac", 16_000, 1) if audio_offset_s is not None else None
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 12 * index, np.uint8))
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio_offset_s is not None:
            mux_audio(container, audio, noise(1, 16_000)[np.newaxis], audio_offset_s)
    return buffer.getvalue()


def noise(duration_s: float, rate: int, seed: int = 1) -> npt.NDArray[np.int16]:
    samples = np.random.default_rng(seed).integers(-6000, 6000, int(duration_s * rate))
    return samples.astype(np.int16)


def wav(
    pcm: npt.NDArray[np.int16], rate: int = 16_000, channels: int = 1, size: int | None = None
) -> bytes:
    """A WAV file by hand, so that its header can lie; ``size`` is what the data chunk declares."""
    data = pcm.tobytes()
    form = (1, channels, rate, min(rate * channels * 2, 2**32 - 1), channels * 2, 16)
    header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, *form)
    header += b"data" + struct.pack("<I", len(data) if size is None else size)
    return b"RIFF" + struct.pack("<I", len(header) + len(data)) + header + data


def decode_all(data: bytes, limits: DecodeLimits = LIMITS) -> Pcm:
    return np.concatenate(list(decode(io.BytesIO(data), limits)))


@pytest.mark.parametrize("name", FILES)
def test_a_sound_comes_out_when_it_was_recorded(name: str) -> None:
    _, _, rate, channels, _, late_s = FILES[name]
    audio = np.zeros((channels, 3 * rate), np.int16)
    audio[:, 2 * rate : 2 * rate + rate // 50] = 20_000

    samples = decode_all(encode(name, audio))

    assert samples.dtype == np.int16
    assert samples.ndim == 1
    assert len(samples) / SAMPLE_RATE == pytest.approx(3 + late_s, abs=0.08)
    loudness = np.abs(samples.astype(int))
    onset_s = np.flatnonzero(loudness > loudness.max() // 3)[0] / SAMPLE_RATE
    assert onset_s == pytest.approx(2 + late_s, abs=0.02)


def test_pcm_at_our_own_rate_comes_out_bit_for_bit() -> None:
    pcm = noise(2.5, SAMPLE_RATE)

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
        lengths = [len(block) for block in decode(source, LIMITS)]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert set(lengths[:-1]) == {BLOCK_SAMPLES}
        assert 0 < lengths[-1] <= BLOCK_SAMPLES
        return peak

    peak_bytes(5)  # imports and caches
    assert peak_bytes(120) < peak_bytes(20) + 200_000


@pytest.mark.parametrize("muxer", ["mp4", "matroska"])
def test_sound_that_starts_late_in_a_video_keeps_its_offset(muxer: str) -> None:
    samples = decode_all(make_video(muxer, audio_offset_s=1.5))

    onset_s = np.flatnonzero(np.abs(samples.astype(int)) > 1000)[0] / SAMPLE_RATE
    assert onset_s == pytest.approx(1.5, abs=0.07)
    assert len(samples) / SAMPLE_RATE == pytest.approx(2.5, abs=0.1)


@pytest.mark.parametrize("muxer", ["mp4", "matroska"])
def test_video_without_sound_has_no_audio_track(muxer: str) -> None:
    with pytest.raises(NoAudioTrack):
        decode_all(make_video(muxer, audio_offset_s=None))


def test_damage_in_the_middle_is_skipped_and_later_sound_stays_in_place() -> None:
    audio = noise(10, 16_000)
    audio[8 * 16_000 : 8 * 16_000 + 800] = 30_000
    data = bytearray(encode("ogg flac", audio[np.newaxis]))
    start = len(data) // 2
    data[start : start + 9000] = os.urandom(9000)

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
    *("wav", "rf64", "w64", "aiff", "au", "caf", "caf alac", "flac"),
    *("m4a", "m4a alac", "mov", "matroska aac", "webm opus"),
]


@pytest.mark.parametrize("name", CUT_NOTICED)
@pytest.mark.parametrize("kept", [0.3, 0.6])
def test_a_cut_file_is_truncated(name: str, kept: float) -> None:
    data = encode(name)

    with pytest.raises(TruncatedMedia):
        decode_all(data[: int(len(data) * kept)])


def test_a_cut_mp4_with_its_index_in_front_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "front.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        mux_audio(container, add_audio(container, "aac", 16_000, 1), noise(4, 16_000)[None], 0)
    data = path.read_bytes()

    with pytest.raises(TruncatedMedia):
        decode_all(data[: len(data) // 2])


@pytest.mark.parametrize("name", ["mp3", "adts", "amr", "ogg opus", "mpegts"])
def test_a_cut_in_a_format_without_a_declared_length_is_accepted(name: str) -> None:
    data = encode(name)

    assert len(decode_all(data[: len(data) * 3 // 4])) > SAMPLE_RATE


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wav_written_into_a_pipe_is_read_to_its_end(size: int) -> None:
    pcm = noise(1.5, SAMPLE_RATE)

    assert np.array_equal(decode_all(wav(pcm, size=size)), pcm)


@pytest.mark.parametrize(
    ("rate", "channels"), [(1, 1), (3999, 1), (384_001, 1), (10**9, 1), (16_000, 9), (16_000, 64)]
)
def test_absurd_rates_and_channel_counts_are_out_of_bounds(rate: int, channels: int) -> None:
    with pytest.raises(AudioOutOfBounds):
        decode_all(wav(np.zeros(channels * 1000, np.int16), rate, channels))


def test_the_limit_counts_decoded_audio() -> None:
    data = wav(np.zeros(10 * SAMPLE_RATE, np.int16), size=0)
    blocks = decode(io.BytesIO(data), DecodeLimits(max_duration_s=4))

    assert [len(next(blocks)) for _ in range(4)] == 4 * [BLOCK_SAMPLES]
    with pytest.raises(AudioTooLong):
        collections.deque(blocks, maxlen=0)
    assert len(decode_all(data, DecodeLimits(max_duration_s=10))) == 10 * SAMPLE_RATE


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


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    '<AdaptationSet contentType="audio"><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\na={}\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_open_neither_files_nor_connections(
    kind: str, tmp_path: Path, listener: socket.socket
) -> None:
    # Whoever opens a pipe for reading waits for its writer: a decoder that did would hang here.
    pipe = tmp_path / "bait.wav"
    os.mkfifo(pipe)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/bait.wav"

    for bait in (str(pipe), f"file:{pipe}", url):
        named = tmp_path / "list.m3u8"
        named.write_text(PLAYLISTS[kind].format(bait))
        with named.open("rb") as source, pytest.raises(UnreadableMedia):
            list(decode(source, LIMITS))

    with pytest.raises(BlockingIOError):
        listener.accept()
    with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)


def test_a_picture_is_refused_by_its_format_not_for_want_of_sound() -> None:
    """Proof that the list of formats is in force: FFmpeg by itself opens a PNG as a video."""
    with pytest.raises(UnreadableMedia, match="not audio or video in a supported format"):
        decode_all(PNG)


def test_even_a_format_that_refers_to_other_files_could_not_open_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bait.wav").write_bytes(wav(noise(1, 16_000)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("worker.decode.FORMATS", FORMATS | {"concat"})

    with pytest.raises(UnreadableMedia):
        decode_all(b"ffconcat version 1.0\nfile 'bait.wav'\n")


def test_pictures_of_a_video_are_never_decoded() -> None:
    data = make_video("matroska", audio_offset_s=0)
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


@pytest.mark.parametrize("name", ["wav", "mp3", "flac", "m4a", "ogg opus"])
@pytest.mark.parametrize("fails_at", [100, 80_000])
def test_a_storage_outage_is_not_mistaken_for_the_end_of_the_file(name: str, fails_at: int) -> None:
    *_, rate, channels, _, _ = FILES[name]
    data = encode(name, np.tile(noise(20, rate), (channels, 1)))
    assert len(data) > fails_at

    with pytest.raises(StorageUnavailable):
        list(decode(FailingFile(data, fails_at), LIMITS))


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
            list(decode(source, LIMITS))
        except MediaError as error:
            message = str(error)
            assert message.endswith(".")
            assert "secret" not in message
            assert "\n" not in message

    assert capfd.readouterr() == ("", "")
