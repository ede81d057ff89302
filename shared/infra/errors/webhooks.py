"""Webhooks and their deliveries."""

from shared.infra.errors.base import RequestError


class WebhookNotFound(RequestError):
    """No such webhook, or another tenant's: the two are answered alike."""


class TooManyWebhooks(RequestError):
    """The tenant has as many webhooks as it may have."""


class DeliveryNotFound(RequestError):
    """No such delivery, or another tenant's: the two are answered alike."""


class DeliveryNotReplayable(RequestError):
    """A delivery that is still pending, or whose webhook takes none."""
