"""Voices on the wire."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from api.native.schemas.speakers import Name
from shared.models.options import whole


class NewVoice(BaseModel):
    """A speaker of a job, to be recognized in later ones."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"speaker": 0, "name": "Anna"}]}
    )

    speaker: Annotated[int, BeforeValidator(whole)] = Field(ge=0, description="its id in that job")
    name: Name


class Voice(BaseModel):
    """A person whose voice is known. What it sounds like is told to nobody."""

    id: UUID
    name: str
    model: str = Field(description="catalogue id of the model that hears it")
    revision: str = Field(description="of that model: another one's voices are not comparable")
    created_at: datetime


class VoiceList(BaseModel):
    """A tenant's voices."""

    voices: list[Voice] = Field(description="the oldest first")
