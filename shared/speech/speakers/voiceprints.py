"""Voiceprints: the mean voices of a job's speakers, as they are stored.

They are biometric data, so they are kept for jobs that ask for it, and go with the transcript.
"""

from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel, ConfigDict

LEAST_SPEECH_S = 5.0
"""Speech from which a speaker's mean voice is enough to name, or to remember, a person."""


class Voiceprints(BaseModel):
    """The mean voices of a job's speakers."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str
    """Catalogue id of the diarizer; its voices are like no other model's."""
    revision: str
    speakers: tuple[str, ...]
    """Of each speaker, float16 in base64."""


@dataclass(frozen=True, slots=True)
class KnownVoice:
    """A voice that a tenant has a name for."""

    id: UUID
    name: str
    voiceprint: str
