"""What references say of the models."""

from datetime import date

from pydantic import BaseModel, ConfigDict, Field

from shared.speech.text.accuracy import MAX_REFERENCE_CHARS, Accuracy

EXAMPLE_REFERENCE = "Good morning. This is what was really said."


class NewReference(BaseModel):
    """What was really said in a job's audio."""

    model_config = ConfigDict(extra="forbid")

    reference: str = Field(
        max_length=MAX_REFERENCE_CHARS,
        description=f"at most {MAX_REFERENCE_CHARS:,} characters",
        examples=[EXAMPLE_REFERENCE],
    )


class PooledAccuracy(Accuracy):
    """Error rates of a model: the errors of all its jobs, divided by the size of all references."""

    model: str
    language: str | None = Field(description="of the speech; null: several, or not known")
    task: str
    jobs: int = Field(description="jobs with a reference")
    audio_s: float


class DayAccuracy(Accuracy):
    """Error rates of a model's jobs that ended on one day."""

    day: date = Field(description="UTC")
    model: str
    jobs: int = Field(description="jobs with a reference")
    audio_s: float


class AccuracyHistory(BaseModel):
    """Error rates over time, by day and model; days without a measured job are left out."""

    days: list[DayAccuracy]


class CacheStats(BaseModel):
    """How often a transcript was there already."""

    computed: int = Field(description="jobs that succeeded by computing their transcript")
    cached: int = Field(description="jobs that succeeded with an equal job's transcript")
    hit_rate: float | None = Field(description="cached / (computed + cached); null: no jobs yet")
    audio_saved_s: float = Field(description="audio of the cached jobs, which no model heard again")


class CacheUse(BaseModel):
    """How often a transcript was made for another request with the same file and options."""

    hits: int
    misses: int
    hit_rate: float | None = Field(description="hits / (hits + misses); null: nothing yet")


class AccuracyStats(BaseModel):
    """What references say of the models, and what the cache has saved."""

    models: list[PooledAccuracy]
    cache: CacheStats
    cache_stats: CacheUse = Field(description="the same as cache, for clients that know this name")
    note: str = "Error rates are of the jobs that were given a reference: what was really said."
