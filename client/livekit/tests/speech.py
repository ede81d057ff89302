"""A person's voice, and how far a text is from what they said."""

from pathlib import Path

import av
import jiwer
from livekit import rtc

ROOT = Path(__file__).parents[3]
RATE = 24_000
FRAME_S = 0.01
LIMIT_S = 60
MOST_WER = 0.25


def read_frames() -> list[rtc.AudioFrame]:
    """Return the voice in frames of 10 ms."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    pcm = bytearray()
    with av.open(str(ROOT / "samples/austen.flac")) as file:
        for decoded in [*file.decode(audio=0), None]:
            for frame in resampler.resample(decoded):
                pcm += frame.to_ndarray().tobytes()
    step = round(RATE * FRAME_S) * 2
    pieces = [bytes(pcm[at : at + step]) for at in range(0, len(pcm), step)]
    return [rtc.AudioFrame(piece, RATE, 1, len(piece) // 2) for piece in pieces]


def error_rate(text: str) -> float:
    """Return the word error rate, without case and punctuation."""
    plain = jiwer.Compose(
        [
            jiwer.SubstituteRegexes({r"[^\w\s']": " "}),
            jiwer.ToLowerCase(),
            jiwer.RemoveMultipleSpaces(),
            jiwer.Strip(),
        ]
    )
    said = (ROOT / "samples/austen.txt").read_text()
    return jiwer.wer(plain(said), plain(text))
