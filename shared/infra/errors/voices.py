"""Voices that a tenant has names for."""

from shared.infra.errors.base import RequestError


class VoiceNotFound(RequestError):
    """No such voice, or another tenant's: the two are answered alike."""


class VoiceprintsNotKept(RequestError):
    """The job was not asked to identify its speakers, so it keeps nothing of their voices."""


class VoiceTooShort(RequestError):
    """The speaker talks for too short a time to be remembered."""


class TooManyVoices(RequestError):
    """The tenant has as many voices as it may have."""
