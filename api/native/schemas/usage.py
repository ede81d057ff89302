"""Usage on the wire."""

from datetime import date

from pydantic import BaseModel, Field


class Amounts(BaseModel):
    """What was used."""

    jobs: int = Field(description="jobs that ended, or were deleted before; a retry is none")
    audio_s: float = Field(
        description="seconds of audio transcribed: all of a job that succeeded, of others what was "
        "done; none of a job that got an equal one's transcript"
    )
    model_s: float = Field(
        description="seconds that models took for it, and to tell its speakers apart"
    )
    live_s: float = Field(description="seconds of audio of live sessions that ended")


class Day(Amounts):
    """What was used on a day."""

    day: date = Field(description="UTC")


class Usage(BaseModel):
    """What was used between two days."""

    total: Amounts
    days: list[Day] = Field(description="those on which anything was used, the oldest first")
