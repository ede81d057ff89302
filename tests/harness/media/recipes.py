"""Media of every kind we open, made here: no file of anybody else's."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.resampler import AudioResampler

from shared.speech.audio.rate import SAMPLE_RATE

Channels = npt.NDArray[np.float32]
"""Audio before encoding, shape (n_channels, n_samples), in [-1, 1]."""

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}
_FRAME_SAMPLES = 1000


@dataclass(frozen=True)
class Kind:
    """A kind of file: how FFmpeg makes it."""

    muxer: str
    encoder: str
    rate: int
    n_channels: int = 1
    has_pictures: bool = False
    muxer_options: dict[str, str] = field(default_factory=dict)
    late_s: float = 0
    """Encoder priming that the format cannot declare, and that players hear as well."""


KINDS = {
    "wav u8": Kind("wav", "pcm_u8", 16_000),
    "wav s16": Kind("wav", "pcm_s16le", 44_100, 2),
    "wav s24": Kind("wav", "pcm_s24le", 48_000),
    "wav s32": Kind("wav", "pcm_s32le", 16_000),
    "wav f32": Kind("wav", "pcm_f32le", 22_050),
    "wav f64": Kind("wav", "pcm_f64le", 48_000),
    "wav mu-law": Kind("wav", "pcm_mulaw", 8_000),
    "wav A-law": Kind("wav", "pcm_alaw", 8_000),
    "wav 192 kHz": Kind("wav", "pcm_s24le", 192_000, 2),
    "wav 5.1": Kind("wav", "pcm_s16le", 48_000, 6),
    "rf64": Kind("wav", "pcm_s16le", 16_000, muxer_options={"rf64": "always"}),
    "w64": Kind("w64", "pcm_s16le", 16_000),
    "aiff": Kind("aiff", "pcm_s16be", 44_100),
    "au": Kind("au", "pcm_s16be", 16_000),
    "caf": Kind("caf", "pcm_s16le", 16_000),
    "caf alac": Kind("caf", "alac", 16_000),
    "flac": Kind("flac", "flac", 96_000, 2),
    "flac 192 kHz": Kind("flac", "flac", 192_000),
    "ogg flac": Kind("ogg", "flac", 16_000),
    "ogg opus": Kind("ogg", "libopus", 48_000, 2),
    "ogg vorbis": Kind("ogg", "vorbis", 44_100, 2),
    "webm opus": Kind("webm", "libopus", 48_000),
    "mkv aac": Kind("matroska", "aac", 16_000),
    "mp3": Kind("mp3", "libmp3lame", 44_100, 2),
    "mp3 16 kHz": Kind("mp3", "libmp3lame", 16_000),
    "m4a": Kind("ipod", "aac", 44_100, 2),
    "m4a 5.1": Kind("ipod", "aac", 48_000, 6),
    "m4a alac": Kind("ipod", "alac", 44_100),
    "mp4 with pictures": Kind("mp4", "aac", 48_000, 2, has_pictures=True),
    "mov with pictures": Kind("mov", "aac", 48_000, has_pictures=True),
    "mkv with pictures": Kind("matroska", "libopus", 48_000, 2, has_pictures=True),
    "fragmented mp4": Kind("mp4", "aac", 16_000, muxer_options=FRAGMENTED, late_s=1024 / 16_000),
    "adts": Kind("adts", "aac", 16_000, late_s=1024 / 16_000),
    "mpegts": Kind("mpegts", "aac", 16_000, late_s=1024 / 16_000),
    "amr": Kind("amr", "libopencore_amrnb", 8_000),
}

MORE_KINDS = {
    "wav ADPCM": Kind("wav", "adpcm_ms", 16_000),
    "wav IMA ADPCM": Kind("wav", "adpcm_ima_wav", 16_000),
    "wav G.722": Kind("wav", "g722", 16_000),
    "wav G.726": Kind("wav", "g726", 8_000),
    "aiff-c float": Kind("aiff", "pcm_f32be", 16_000),
    "aiff-c mu-law": Kind("aiff", "pcm_mulaw", 8_000),
    "aiff-c little-endian": Kind("aiff", "pcm_s16le", 16_000),
    "aiff 24 bits": Kind("aiff", "pcm_s24be", 48_000),
    "caf mu-law": Kind("caf", "pcm_mulaw", 8_000),
    "caf float": Kind("caf", "pcm_f32le", 16_000),
    "au mu-law": Kind("au", "pcm_mulaw", 8_000),
    "wavpack": Kind("wv", "wavpack", 44_100),
    "ac3": Kind("ac3", "ac3", 48_000, 6, late_s=256 / 48_000),
    "eac3": Kind("eac3", "eac3", 48_000, 2, late_s=256 / 48_000),
    "mka eac3": Kind("matroska", "eac3", 48_000),
    "wma 1": Kind("asf", "wmav1", 44_100, 2, late_s=-2048 / 44_100),
    "wma 2": Kind("asf", "wmav2", 44_100, 2, late_s=-2048 / 44_100),
    "avi": Kind("avi", "pcm_s16le", 16_000),
    "avi mp3": Kind("avi", "libmp3lame", 44_100, late_s=1105 / 44_100),
    "flv aac": Kind("flv", "aac", 44_100, late_s=1024 / 44_100),
    "flv mp3": Kind("flv", "libmp3lame", 44_100, late_s=1105 / 44_100),
    "mpeg-ps": Kind("mpeg", "mp2", 44_100, late_s=481 / 44_100),
    "vob": Kind("vob", "ac3", 48_000, late_s=256 / 48_000),
}
"""Kinds that few people have. FFmpeg has no encoder of DTS, GSM and AMR-WB, and its decoder of WMA
leaves out the first frame."""


def encode(name: str, audio: Channels | None = None, audio_offset_s: float = 0) -> bytes:
    """Make a file of the kind ``name``; by default of four seconds of noise."""
    kind = KINDS[name]
    if audio is None:
        audio = np.tile(noise(4, kind.rate), (kind.n_channels, 1))
    return mux(kind, audio, audio_offset_s)


def mux(kind: Kind, audio: Channels | None, audio_offset_s: float = 0) -> bytes:
    """Make a file; without ``audio``, which is at the kind's rate, only of pictures."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind.muxer, options=kind.muxer_options) as container:
        pictures = _add_pictures(container) if kind.has_pictures else None
        sound = None
        if audio is not None:
            sound = container.add_stream(kind.encoder, rate=kind.rate)
            sound.layout = LAYOUTS[len(audio)]
            if kind.encoder == "vorbis":  # FFmpeg's own encoder, which it calls experimental
                sound.options = {"strict": "experimental"}
            if kind.encoder == "libopencore_amrnb":
                sound.bit_rate = 12_200
            if kind.encoder.startswith("wma"):
                sound.bit_rate = 128_000
        if pictures is not None:
            for index in range(20):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 12 * index, np.uint8))
                frame.pts, frame.time_base = index, Fraction(1, 10)
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
        if sound is not None and audio is not None:
            for sounding in _frames(audio, kind.rate, audio_offset_s):
                container.mux(sound.encode(sounding))
            container.mux(sound.encode(None))
    return buffer.getvalue()


def _add_pictures(container: Any) -> Any:
    """Two seconds of tiny ones, in which an encoder finds little to do."""
    stream = container.add_stream("mpeg4", rate=10)
    stream.width = stream.height = 32
    stream.pix_fmt = "yuv420p"
    return stream


def _frames(audio: Channels, rate: int, offset_s: float) -> Iterator[av.AudioFrame]:
    for start in range(0, audio.shape[1], _FRAME_SAMPLES):
        interleaved = audio[:, start : start + _FRAME_SAMPLES].T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(interleaved, np.float32), format="flt", layout=LAYOUTS[len(audio)]
        )
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        frame.pts = start + int(offset_s * rate)
        yield frame


def at_rate(samples: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
    """Resample mono audio, shape (n_samples,), from our own rate to another."""
    resampler = AudioResampler("flt", "mono", rate)
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis].copy(), format="flt", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])


def noise(duration_s: float, rate: int, seed: int = 1) -> npt.NDArray[np.float32]:
    """White noise at a fifth of full scale, shape (n_samples,)."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.2, 0.2, int(duration_s * rate)).astype(np.float32)


def wav(
    pcm: npt.NDArray[np.int16], rate: int = 16_000, channels: int = 1, size: int | None = None
) -> bytes:
    """A WAV file by hand, so that its header can lie; ``size`` is what the data chunk declares."""
    data = pcm.astype("<i2", copy=False).tobytes()
    form = (1, channels, rate, min(rate * channels * 2, 2**32 - 1), channels * 2, 16)
    header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, *form)
    header += b"data" + struct.pack("<I", len(data) if size is None else size)
    return b"RIFF" + struct.pack("<I", len(header) + len(data)) + header + data


def ten_hours_of_silence() -> bytes:
    """A block of it is one sample and a count: less than half a megabyte of FLAC."""
    silence = np.zeros((1, 60 * 4000), np.float32)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=4000, options={"frame_size": "8192"})
        stream.layout = "mono"
        for minute in range(600):
            frame = av.AudioFrame.from_ndarray(silence, format="flt", layout="mono")
            frame.sample_rate, frame.pts = 4000, minute * silence.shape[1]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
