"""Limits of tenants on the wire."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from api.validation import whole
from shared.store.accounts import MAX_LIMIT

Count = Annotated[Annotated[int, Field(ge=0, le=MAX_LIMIT)] | None, BeforeValidator(whole)]


class LimitsChange(BaseModel):
    """What is to change of a tenant's limits; what is left out stays."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"max_jobs": 1_000, "audio_hours_per_day": 50}]},
    )

    requests_per_minute: Count = Field(
        default=None, description="0: any number; null, here and below: the platform's default"
    )
    max_jobs: Count = Field(default=None, description="that wait or run; 0: any number")
    audio_hours_per_day: float | None = Field(
        default=None, ge=0, le=MAX_LIMIT, allow_inf_nan=False, description="of UTC; 0: any number"
    )
    max_upload_bytes: Count = Field(
        default=None, description="the platform's default is the most; 0: that"
    )
    max_open_uploads: Count = Field(default=None, description="that lack bytes; 0: any number")
    max_streams: Count = Field(
        default=None, description="in an API process; 0: the tenant's share of the places"
    )
    max_live_sessions: Count = Field(
        default=None, description="in an API process; 0: the tenant's share of the places"
    )


class OwnLimits(BaseModel):
    """What differs from the platform's defaults for a tenant; null: nothing."""

    requests_per_minute: int | None = None
    max_jobs: int | None = None
    audio_hours_per_day: float | None = None
    max_upload_bytes: int | None = None
    max_open_uploads: int | None = None
    max_streams: int | None = None
    max_live_sessions: int | None = None


class LimitsInForce(BaseModel):
    """The limits that hold for a tenant; 0: any number, or its share of a process' places."""

    requests_per_minute: int
    max_jobs: int
    audio_hours_per_day: float
    max_upload_bytes: int
    max_open_uploads: int
    max_streams: int
    max_live_sessions: int


class TenantLimits(BaseModel):
    """A tenant's limits."""

    own: OwnLimits
    in_force: LimitsInForce
