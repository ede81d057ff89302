"""The speakers of a job on the wire."""

from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from shared.models.options import MAX_SPEAKERS, whole
from shared.speech.transcript.transcript import Speaker

MAX_NAME_CHARS = 100


_NO_CONTROL = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
"""What would end a line of a transcript, or be no character of one."""

Name = Annotated[
    str,
    Field(max_length=MAX_NAME_CHARS, pattern=rf"^[^\s{_NO_CONTROL}][^{_NO_CONTROL}]*$"),
    AfterValidator(str.strip),
]


class JobSpeaker(Speaker):
    """A speaker of a job, as it was diarized."""

    merged_into: int | None = Field(
        description="the speaker whose words these are, too; null: it is a speaker of its own"
    )


class JobSpeakers(BaseModel):
    """Who speaks in a job's recording."""

    revision: int = Field(description="how often the speakers were named or merged")
    speakers: list[JobSpeaker] | None = Field(
        description="null where they were not asked for, or could not be told apart"
    )


class SpeakerChange(BaseModel):
    """What is to change of a speaker; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[int, BeforeValidator(whole)] = Field(ge=0)
    name: Name | None = Field(default=None, description="null: none of its own")
    merged_into: Annotated[int | None, BeforeValidator(whole)] = Field(
        default=None, ge=0, description="id of the speaker who it is too; null: nobody else"
    )


class SpeakerChanges(BaseModel):
    """Changes of a job's speakers, which are made together."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"speakers": [{"id": 0, "name": "Anna"}]}]},
    )

    # The schema stands in the body's: there is no component that a reference could name.
    speakers: list[Annotated[SpeakerChange, WithJsonSchema(SpeakerChange.model_json_schema())]] = (
        Field(min_length=1, max_length=MAX_SPEAKERS)
    )
