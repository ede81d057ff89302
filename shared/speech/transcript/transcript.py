"""The transcript as clients see it. Times are seconds into the original file.

Headers and segments are kept as JSON. What is read from there may have been written by another
version: members that it lacks have defaults, and unknown ones are ignored.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

Probability = Annotated[float, AfterValidator(lambda value: round(value, 3))]
"""In [0, 1], to three digits: more would be noise."""


Separator = Annotated[
    str,
    Field(
        description="what stands before it in the text of its channel: a space, nothing, or other "
        "white space; separators and texts, joined, are the channel's text. Empty before the first"
    ),
]


SpeakerId = Annotated[
    int | None,
    Field(
        description="id of who speaks, one of the transcript's speakers; null where that is not "
        "known or was not asked for"
    ),
]


class RecognizedVoice(BaseModel):
    """The voice that a speaker was recognized by."""

    voice_id: UUID
    similarity: float = Field(description="cosine of the two voices, up to 1")


class Speaker(BaseModel):
    """Somebody who speaks in a recording."""

    id: int = Field(description="from 0, in the order in which speakers are first heard")
    name: str = Field(
        description="'Speaker 0', or of the voice it was recognized by, or as PATCH gave it"
    )
    speech_s: float = Field(description="how long the speaker's words take")
    recognized: RecognizedVoice | None = Field(
        default=None, description="null: by no voice that is known"
    )


class Word(BaseModel):
    """One word and when it was spoken."""

    text: str = Field(description="without white space around it")
    separator: Separator = " "
    start: float = Field(description="seconds into the original file")
    end: float = Field(description="seconds into the original file")
    confidence: Probability | None = Field(
        default=None, description="posterior in [0, 1]; null where the engine gives none"
    )
    speaker: SpeakerId = None
    overlap: bool = Field(default=False, description="true: another speaker talks at the same time")


class SegmentDecoding(BaseModel):
    """How a decoder came to a segment: its tokens, and what it measured of their window.

    The window is that in which the segment's first word was heard.
    """

    window_start: float = Field(description="seconds into the original file")
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    tokens: list[int]


class Segment(BaseModel):
    """A sentence, or a part of a long one; without punctuation, words between two pauses.

    It lasts 30 s at most, unless one word is longer, and has one speaker.
    """

    id: int = Field(description="from 0, in the order of starts")
    start: float = Field(description="seconds into the original file")
    end: float = Field(description="seconds into the original file")
    text: str
    separator: Separator = " "
    confidence: Probability | None = Field(
        default=None, description="mean over its words; null where one has none"
    )
    language: str | None = Field(default=None, description="ISO 639 code of its text")
    channel: int | None = Field(
        default=None, description="from 0; null where channels were mixed down"
    )
    speaker: SpeakerId = None
    words: list[Word]
    decoding: SegmentDecoding | None = Field(default=None, exclude=True)
    """Kept with the transcript for dialects, and told by none of our own answers; None where the
    engine measures nothing of the kind."""


class Paragraph(BaseModel):
    """Segments that follow each other, of one channel and speaker, without a long pause between."""

    start: float = Field(description="seconds into the original file")
    end: float = Field(description="seconds into the original file")
    text: str
    channel: int | None = Field(
        default=None, description="from 0; null where channels were mixed down"
    )
    speaker: SpeakerId = None
    first_segment: int = Field(description="id of its first segment")
    last_segment: int = Field(description="id of its last segment")


class TranscriptWarning(BaseModel):
    """A reason to read the transcript with care."""

    code: str = Field(
        description="low_confidence, loop_suspected, unheard, clipped_audio, truncated, damaged, "
        "gaps, wrong_length, several_tracks, channels_cancel or speakers_unknown; later versions "
        "may have more"
    )
    detail: str = Field(description="one sentence for people")


class Header(BaseModel):
    """What any transcript says of itself as a whole."""

    language: str | None = Field(
        description="ISO 639 code of the speech, given or detected; the one most of it is in"
    )
    language_probability: Probability | None = Field(
        default=None, description="of a detected language, in [0, 1]; null where it was given"
    )
    channels: int | None = Field(
        default=None, description="transcribed apart; null where they were mixed down"
    )
    speakers: list[Speaker] | None = Field(
        default=None, description="null where they were not asked for, or are not known (yet)"
    )
    warnings: list[TranscriptWarning] = Field(default_factory=list)


class TranscriptHeader(Header):
    """What the transcript of a job that succeeded says of itself."""

    partial: Literal[False] = False
    duration_s: float = Field(description="decoded length of the audio")
    speech_s: float = Field(description="audio that was handed to the model, of any channel")
    skipped_s: float = Field(
        description="audio the voice activity detector left out, in all channels at once"
    )


class TranscriptText(TranscriptHeader):
    """The result of a job without its words' times."""

    text: str


class Transcript(TranscriptText):
    """The whole result of a job."""

    paragraphs: list[Paragraph]
    segments: list[Segment]


MAX_MISSING = 100
"""Most spans that a partial transcript names; they take some kilobytes."""


class MissingSpan(BaseModel):
    """Audio that is planned but not transcribed, in some channel."""

    start: float = Field(description="seconds into the original file")
    end: float = Field(description="seconds into the original file")


class PartialHeader(Header):
    """What the transcript of a job that has not succeeded (yet) says of itself."""

    partial: Literal[True] = True
    duration_s: float | None = Field(
        description="decoded length of the audio; null while it is not known"
    )
    speech_s: float = Field(description="audio that the model has transcribed, of any channel")
    missing_s: float = Field(
        description="audio that is planned but not transcribed, in some channel; more may be "
        "planned while duration_s is null"
    )
    missing: list[MissingSpan] = Field(
        description=f"where that is, in order; past {MAX_MISSING} spans the last one reaches over "
        "all that follow, and what is not missing between them"
    )


class PartialTranscript(PartialHeader):
    """What a job has transcribed so far; the final transcript may cut segments elsewhere."""

    text: str
    paragraphs: list[Paragraph]
    segments: list[Segment]


def segment_document(segment: Segment) -> dict[str, Any]:
    """Return all of a segment as JSON, to be kept."""
    document = segment.model_dump(mode="json")
    if segment.decoding is not None:
        document["decoding"] = segment.decoding.model_dump()
    return document


def join_words(words: Iterable[Word]) -> str:
    """Return the running text of words."""
    parts = [part for word in words for part in (word.separator, word.text)]
    return "".join(parts[1:])


def join_segments(segments: Iterable[Segment]) -> Iterator[str]:
    """Yield the parts of segments' running text; where the channel changes there is a space."""
    previous = None
    for segment in segments:
        if previous is not None:
            yield segment.separator if segment.channel == previous.channel else " "
        yield segment.text
        previous = segment
