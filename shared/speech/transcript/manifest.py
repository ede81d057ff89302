"""What it takes to explain and repeat a transcript."""

from pydantic import BaseModel, Field

from shared.speech.audio.timemap import Anchor


class Decoding(BaseModel):
    """How the model was asked to decode."""

    beam_size: int
    language: str | None = Field(
        description="ISO 639 code, given or detected; null where each chunk has its own"
    )
    task: str
    prompt: str | None
    hotwords: str | None


class ManifestChunk(BaseModel):
    """A part of the audio that the model heard at once: a core, and context on both sides.

    Words in the core were kept.
    """

    idx: int
    core_start: int = Field(description="samples into the decoded audio")
    core_end: int = Field(description="samples into the decoded audio, exclusive")
    stride_left: int = Field(description="samples of context before the core")
    stride_right: int = Field(description="samples of context after the core")
    channel: int | None = Field(
        default=None, description="from 0; null where channels were mixed down"
    )
    times: list[Anchor] = Field(
        default_factory=list,
        description="samples of the decoded audio with their times in the file, both in samples; "
        "times between two are linear; empty where each sample is its own time",
    )
    parts: list[tuple[int, int]] = Field(
        default_factory=list,
        description="start and end of what was heard, in samples from the first of context; long "
        "pauses between two parts were left out; empty where all was heard",
    )


class ManifestSpeakers(BaseModel):
    """How its speakers were told apart."""

    model: str
    revision: str
    weights: list[str] = Field(description="digests of the files that were loaded")
    engines: list[str] = Field(description="with the versions of what they rest on")
    min: int | None = Field(description="at least so many were asked for")
    max: int | None = Field(description="at most so many were asked for")
    count: int | None = Field(description="exactly so many were asked for")
    spans: list[tuple[int, int]] = Field(
        description="what was heard at once: samples into the decoded audio, the end exclusive"
    )


class Manifest(BaseModel):
    """How a transcript was made; lists have several entries where its workers differed."""

    model: str
    revision: str
    weights: list[str] = Field(description="digests of the files that were loaded")
    engines: list[str] = Field(description="with the versions of what they rest on")
    devices: list[str] = Field(description="and the type that they computed in")
    decode: Decoding
    vad: str
    window_s: float = Field(
        description="the most that the model hears of a chunk, in seconds, context included"
    )
    sample_rate: int = Field(description="of the decoded audio, in Hz")
    chunks: list[ManifestChunk]
    speakers: ManifestSpeakers | None = Field(
        default=None, description="null: no model told speakers apart"
    )
