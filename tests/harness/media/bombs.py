"""Media bombs: small files of hours of audio."""

import io
from fractions import Fraction

import av
import numpy as np

RATE_HZ = 16_000


def silent_matroska(hours: float, *, n_channels: int = 8, gap_s: int = 3_500) -> bytes:
    """Return some kilobytes of Matroska: three seconds of packets each ``gap_s``, all silent."""
    layout, frame_samples = {1: "mono", 8: "7.1"}[n_channels], 4_096
    silence = np.zeros((1, n_channels * frame_samples), np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        options = {"frame_size": str(frame_samples)}  # a packet for each frame
        stream = container.add_stream("flac", rate=RATE_HZ, layout=layout, options=options)
        for start_s in range(0, round(hours * 3_600) + 1, gap_s):
            for index in range(3 * RATE_HZ // frame_samples + 1):
                frame = av.AudioFrame.from_ndarray(silence, format="s16", layout=layout)
                frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
                frame.pts = start_s * RATE_HZ + index * frame_samples
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def silent_flac(hours: float) -> bytes:
    """Return a FLAC of digital silence, some 20 kB an hour."""
    return _flac(hours, level=0)


def stepped_flac(hours: float) -> bytes:
    """Return a FLAC as small, none of whose samples is zero: a wave of steps of four seconds."""
    return _flac(hours, level=8_000)


def _flac(hours: float, level: int) -> bytes:
    """Return a FLAC whose frames are constant, one ``level`` and the next ``-level``."""
    frame_samples = 65_535  # the most that FLAC has
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        options = {"frame_size": str(frame_samples)}
        stream = container.add_stream("flac", rate=RATE_HZ, layout="mono", options=options)
        for index in range(round(hours * 3_600 * RATE_HZ / frame_samples)):
            samples = np.full((1, frame_samples), -level if index % 2 else level, np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
            frame.pts = index * frame_samples
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
