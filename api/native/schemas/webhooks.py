"""The bodies and answers of the webhook endpoints, as the OpenAPI document shows them."""

from datetime import datetime
from typing import Annotated, Literal, Self, get_args
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.native.schemas import members
from shared.infra.outbound import MAX_URL_CHARS, URL_PATTERN
from shared.store.states import DeliveryState
from shared.store.webhooks.deliveries import DeliveryView
from shared.store.webhooks.endpoints import MAX_ENDPOINTS

EventName = Literal["job.succeeded", "job.failed", "job.canceled", "batch.completed"]
ALL_EVENTS: tuple[EventName, ...] = get_args(EventName)


def _storable(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("storable", "contains a NUL character")
    return text


def _once(events: list[EventName]) -> list[EventName]:
    return [event for event in ALL_EVENTS if event in events]


Url = Annotated[
    str,
    Field(
        max_length=MAX_URL_CHARS,
        description="https; its host must be public",
        json_schema_extra={"pattern": URL_PATTERN},
        examples=["https://your-receiver.example/longhand"],
    ),
]
Description = Annotated[str, Field(max_length=500), AfterValidator(_storable)]
Events = Annotated[list[EventName], Field(min_length=1), AfterValidator(_once)]


class NewWebhook(BaseModel):
    """A URL that jobs' ends are sent to."""

    model_config = ConfigDict(extra="forbid")

    url: Url
    description: Description = Field(default="", examples=["newsroom"])
    events: Events = Field(default=list(ALL_EVENTS), description="which events to send")


class WebhookChange(BaseModel):
    """What is to change of a webhook; what is left out stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"description": "newsroom"}]}
    )

    url: Url | None = None
    description: Description | None = None
    events: Events | None = None
    enabled: bool | None = Field(
        default=None, description="false: send nothing more; what is pending fails"
    )


class Webhook(BaseModel):
    """A webhook, without its secret."""

    id: UUID
    url: str
    description: str
    events: list[str]
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None = Field(
        description="of the first failed attempt since the last delivery that succeeded"
    )
    old_secret_until: datetime | None = Field(
        description="until when the secret before the last rotation signs too"
    )
    created_at: datetime


class WebhookWithSecret(Webhook):
    """A webhook and its secret, which is shown this once."""

    secret: str = Field(description="whsec_...: verifies signatures, see standardwebhooks.com")


class WebhookList(BaseModel):
    """All webhooks, the oldest first."""

    webhooks: list[Webhook] = Field(description=f"at most {MAX_ENDPOINTS}")


class TestResult(BaseModel):
    """How a test event fared."""

    delivery_id: UUID
    delivered: bool = Field(description="whether the receiver answered 2xx")
    status_code: int | None = Field(description="null: there was no answer")
    latency_ms: float
    error: str | None


class DeliveryAttempt(BaseModel):
    """One attempt to deliver an event."""

    at: datetime = Field(description="when it was over")
    status_code: int | None = Field(description="null: there was no answer")
    latency_ms: float
    error: str | None = Field(description="null: the receiver answered 2xx")


class Event(BaseModel):
    """What is delivered."""

    id: UUID = Field(description="the webhook-id header, the same in all attempts")
    type: str
    body: str = Field(
        description="as sent, to the byte; a webhook whose face is not native gets another"
    )


class Delivery(BaseModel):
    """An event on its way to one webhook."""

    id: UUID
    state: DeliveryState
    error: str | None = Field(description="why it failed")
    endpoint_id: UUID
    url: str = Field(description="the webhook's, as it is now")
    face: str = Field(description="in whose form it is told: native, deepgram or assemblyai")
    job_id: UUID | None = Field(description="null for a test")
    event: Event
    attempts: list[DeliveryAttempt]
    next_attempt_at: datetime | None = Field(
        description="null unless it is pending, and while an attempt is being made"
    )
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, view: DeliveryView) -> Self:
        """Return the wire form of a delivery."""
        event = Event(id=view.event_id, type=view.type, body=view.body)
        return cls.model_validate(members(view) | {"event": event}, from_attributes=True)


class DeliveryPage(BaseModel):
    """Some deliveries, newest first."""

    deliveries: list[Delivery]
    next_cursor: str | None = Field(description="the next page's cursor; null on the last page")
