"""The transcript as clients see it. Times are seconds into the original file."""

from collections.abc import Iterable

from pydantic import BaseModel, Field


class Word(BaseModel):
    """One word and when it was spoken."""

    text: str
    start: float = Field(description="seconds into the original file")
    end: float = Field(description="seconds into the original file")
    confidence: float | None = Field(
        default=None, description="posterior in [0, 1]; null where the engine gives none"
    )


class Segment(BaseModel):
    """A run of words between two pauses or sentence ends."""

    id: int
    start: float
    end: float
    text: str
    words: list[Word]


class Transcript(BaseModel):
    """The whole result of a job."""

    text: str
    language: str | None = Field(description="ISO 639-1 code, given or detected")
    duration_s: float = Field(description="decoded length of the audio")
    speech_s: float = Field(description="audio that was handed to the model")
    skipped_s: float = Field(description="audio the voice activity detector left out")
    segments: list[Segment]
    warnings: list[str] = Field(default_factory=list)


UNSPACED_LANGUAGES = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km"})
"""Languages written without spaces between words, as ISO 639 codes."""


def word_separator(left: str, right: str, language: str | None) -> str:
    """Return what stands between two neighbouring words: a space or nothing.

    Latin words and numbers keep their space inside unspaced writing.
    """
    if language not in UNSPACED_LANGUAGES:
        return " "
    return " " if (left[-1:] + right[:1]).isascii() and right[:1].isalnum() else ""


def join_words(texts: Iterable[str], language: str | None) -> str:
    """Write words as running text in the manner of the language."""
    parts: list[str] = []
    for text in texts:
        if parts:
            parts.append(word_separator(parts[-1], text, language))
        parts.append(text)
    return "".join(parts)
