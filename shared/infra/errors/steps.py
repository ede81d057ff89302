"""What becomes of a step beside a result."""

from shared.infra.errors.base import LonghandError, PermanentError, TransientError


class ModelError(PermanentError):
    """A model that cannot be loaded, or that cannot do what its catalogue entry says."""


class NoWorker(PermanentError):
    """A step waited for its limit, and no worker takes steps of its kind or model."""


class DeliveryVoid(PermanentError):
    """A webhook delivery that is not wanted any more: its webhook is disabled or deleted."""


class PoisonousInput(TransientError):
    """The audio ends the process that decodes it, or has it hang; so may a machine in distress."""


class DeviceOutOfMemory(TransientError):
    """The inference device ran out of memory."""


class EngineFailed(TransientError):
    """The engine broke down; whether it can go on is not known."""


class InternalError(TransientError):
    """A bug of ours. The step is retried; if it meets the same bug again, it fails.

    ``fingerprint`` tells bugs apart: the exception's class and the place in the code.
    """

    def __init__(self, message: str, fingerprint: str = "") -> None:
        super().__init__(message)  # unpickling calls this with the message, then sets the rest
        self.fingerprint = fingerprint


class LeaseLost(LonghandError):
    """The step's lease expired, or its job ended, while this worker ran it."""


class WorkerStopping(LonghandError):
    """The worker was told to stop while it ran a step that would take longer than it may."""


class LargeFile(LonghandError):
    """The audio is long although its file is small, and too many large files are in work."""
