"""What a live session asks of a model worker, and the answer."""

from dataclasses import dataclass
from enum import StrEnum

from shared.speech.chunks.hypothesis import Hypothesis
from shared.speech.speakers.voices import Voice


class LiveKind(StrEnum):
    """What an answer is for."""

    FINAL = "final"
    """The text of an utterance, or of a part of one. It is decoded as a chunk of a job is, with the
    times of its words, and sent again until there is an answer."""
    PARTIAL = "partial"
    """What has been said so far: the newest one counts, and one that is lost is not repeated."""
    SPEAKER = "speaker"
    """Whose voices are in an utterance, beside its ``FINAL``: one that is lost is not repeated. Its
    model is one that tells speakers apart."""


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """Audio of one segment of a session that a model is to hear now."""

    id: str
    """Unique; the answer names it."""
    segment: str
    """The session's stretch of audio. A newer request of a segment and kind takes the place of one
    that no worker has taken."""
    kind: LiveKind
    model: str
    """Its id in the catalogue."""
    pcm: bytes
    """s16le, mono, at 16 kHz; at most 30 s."""
    language: str | None = None
    """ISO 639 code; None to have it detected."""
    task: str = "transcribe"
    prompt: str | None = None
    """Text that came before: a model that takes prompts goes on from it."""
    hotwords: str | None = None
    """Words to expect, for a model that takes prompts."""


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """What a model heard, or why it heard nothing."""

    id: str
    hypothesis: Hypothesis | None
    """Word times are samples from the request's first one; None where it failed."""
    error: str | None = None
    """The code of an error (``shared.infra.errors``)."""
    queue_ms: float = 0.0
    """From the sending of the request to its engine call."""
    inference_ms: float = 0.0
    batch_size: int = 0
    worker: str | None = None
    voices: tuple[Voice, ...] | None = None
    """Who talks; None: that was not asked, or not heard."""
