"""What is said of transcripts beside themselves."""

from pydantic import BaseModel, Field

from shared.speech.transcript.edits import Change
from shared.store.corrections import JournalState


class Changes(JournalState):
    """What edits and corrections changed in a transcript."""

    changes: list[Change]


class Peaks(BaseModel):
    """The loudness of a job's audio over time, for a waveform."""

    duration_s: float = Field(description="of the audio, which the peaks divide into equal parts")
    peaks: list[int] = Field(description="the largest sample of each part, 0 to 255: full scale")
