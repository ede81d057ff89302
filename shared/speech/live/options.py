"""What a live session is asked to do."""

from dataclasses import dataclass

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.names import VadName


def samples_of(milliseconds: float) -> int:
    """Return the number of samples of a duration."""
    return round(milliseconds * SAMPLE_RATE / 1000)


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """The options of one session; durations are samples."""

    model: str
    """Its id in the catalogue."""
    language: str | None = None
    """ISO 639 code; None to have it detected."""
    task: str = "transcribe"
    prompt: str | None = None
    hotwords: str | None = None
    vad: VadName = "silero"
    """``off``: everything is speech, and only a flush or the limit ends a segment."""
    threshold: float = 0.3
    """Score in [0, 1] at which speech begins."""
    partials: bool = True
    min_speech: int = samples_of(150)
    """Shorter speech is a noise, unless a flush or the end of the session asks for it."""
    min_silence: int = samples_of(500)
    """Silence that ends a segment."""
    partial_interval: int = samples_of(300)
    partial_window: int = samples_of(8_000)
    """Most audio that a partial request has."""
    max_utterance: int = samples_of(30_000)
    """Longest segment; at most the 30 s of a request."""
