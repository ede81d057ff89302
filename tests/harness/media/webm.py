"""WebM with Opus, as a browser's MediaRecorder writes it: live, in short clusters."""

import io

import av
import numpy as np
from av.audio.resampler import AudioResampler

from shared.speech.audio.rate import SAMPLE_RATE

CLUSTER_MS = 100
_FRAMES = {
    "libopus": ("s16", 960),
    "vorbis": ("fltp", 960),
    "flac": ("s16", 4_608),
    "libmp3lame": ("s16p", 1_152),
    "aac": ("fltp", 1_024),
}
"""Of encoders."""


def encode_webm(
    pcm: bytes, *, encoder: str = "libopus", channels: int = 1, container: str = "webm"
) -> bytes:
    """Return audio, s16le at 16 kHz, as WebM, whose clusters have no sizes, or otherwise."""
    file = io.BytesIO()
    is_webm = container == "webm"
    options = {"live": "1", "cluster_time_limit": str(CLUSTER_MS)} if is_webm else {}
    layout = "stereo" if channels == 2 else "mono"
    # Browsers write no cues: they cannot seek.
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(encoder, rate=48_000, layout=layout)
        if encoder == "vorbis":  # FFmpeg's own, which it calls experimental
            stream.options = {"strict": "experimental"}
        sample_format, frame_size = _FRAMES[encoder]
        resampler = AudioResampler(sample_format, layout, 48_000, frame_size)
        samples = np.frombuffer(pcm, "<i2")[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for each in (*resampler.resample(frame), *resampler.resample(None)):
            output.mux(stream.encode(each))
        output.mux(stream.encode(None))
    return file.getvalue()


def slices(data: bytes, duration_s: float) -> list[bytes]:
    """Return a file in pieces of about 100 ms."""
    size = round(len(data) * CLUSTER_MS / 1000 / duration_s)
    return [data[at : at + size] for at in range(0, len(data), size)]
