"""WebM with Opus, as a browser's MediaRecorder writes it: live, in short clusters."""

import io

import av
import numpy as np
from av.audio.resampler import AudioResampler

from shared.speech.chunks import SAMPLE_RATE

CLUSTER_MS = 100


def encode_webm(pcm: bytes, *, encoder: str = "libopus", channels: int = 1) -> bytes:
    """Return audio, s16le at 16 kHz, as WebM; its clusters have no sizes."""
    file = io.BytesIO()
    options = {"live": "1", "cluster_time_limit": str(CLUSTER_MS)}
    layout = "stereo" if channels == 2 else "mono"
    # Browsers write no cues: they cannot seek.
    with av.open(file, "w", format="webm", options=options) as container:
        stream = container.add_stream(encoder, rate=48_000, layout=layout)
        if encoder == "vorbis":  # FFmpeg's own, which it calls experimental
            stream.options = {"strict": "experimental"}
        resampler = AudioResampler("s16" if encoder == "libopus" else "fltp", layout, 48_000, 960)
        samples = np.frombuffer(pcm, "<i2")[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for each in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(each))
        container.mux(stream.encode(None))
    return file.getvalue()


def slices(data: bytes, duration_s: float) -> list[bytes]:
    """Return a file in pieces of about 100 ms."""
    size = round(len(data) * CLUSTER_MS / 1000 / duration_s)
    return [data[at : at + size] for at in range(0, len(data), size)]
