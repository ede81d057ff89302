"""What a caller asked for breaks the schema, or is none of what there is."""

from collections.abc import Collection, Mapping, Sequence

from shared.infra.errors.base import RequestError


class InvalidRequest(RequestError):
    """A malformed body, parameter or cursor."""


class ConflictingOptions(InvalidRequest):
    """Options that exclude each other, or one that needs another."""


class MisnamedField(InvalidRequest):
    """A field that Longhand names otherwise: ``names`` has the right name for each wrong one."""

    def __init__(self, message: str, names: Mapping[str, str]) -> None:
        """``names``: the right ones by the wrong ones."""
        super().__init__(message)
        self.members = {"names": dict(names)}


class EmptyReference(InvalidRequest):
    """A reference without a word."""


class InvalidParameter(InvalidRequest):
    """A parameter of another service's API that there is not, or whose value is wrong."""

    def __init__(self, message: str, param: str | None = None) -> None:
        """``param``: its name."""
        super().__init__(message)
        self.members = {"param": param}


class UnsupportedParameter(InvalidParameter):
    """A parameter of another service's API that would change the answer, and is not done here."""


class UnknownModel(RequestError):
    """A model id that the catalogue does not have."""


class ModelNotServed(RequestError):
    """No worker serves the model, so its job would wait; ``served_models`` lists those that are."""

    def __init__(self, message: str, served_models: Collection[str]) -> None:
        """Name the models that are served instead."""
        super().__init__(message)
        self.members = {"served_models": sorted(served_models)}


class UnsupportedLanguage(RequestError):
    """A language that the chosen model does not speak, or that there is not."""


class UnsupportedOption(RequestError):
    """Something that the chosen model cannot do."""


class UnknownFormat(RequestError):
    """A transcript format that does not exist."""


class UnsupportedMediaType(RequestError):
    """A request body of another type than the endpoint reads."""


class NotAcceptable(RequestError):
    """The ``Accept`` header takes none of the media types that are ``offered``."""

    def __init__(self, message: str, offered: Sequence[str]) -> None:
        """``offered``: those that the answer can have."""
        super().__init__(message)
        self.members = {"offered": list(offered)}


class RangeNotSatisfiable(RequestError):
    """The file has no bytes where the ``Range`` header asks for some."""

    def __init__(self, message: str, n_bytes: int) -> None:
        """``n_bytes``: the size of the file."""
        super().__init__(message)
        self.n_bytes = n_bytes


class IdempotencyKeyInUse(RequestError):
    """A request with this Idempotency-Key is under way: ask again in a moment."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        """``retry_after_s``: when to ask again, in seconds from now."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class IdempotencyKeyReused(RequestError):
    """This Idempotency-Key was used for another request."""
