"""Who asks, from where, and what they may do."""

from shared.infra.errors.base import LonghandError, RequestError, TransientError


class IssuerUnavailable(TransientError):
    """The issuer of JWTs does not tell its keys, so a token can be neither taken nor refused."""


class InvalidSetting(LonghandError):
    """A setting has a value that it cannot take: the program does not start."""


class UnsafeSetting(InvalidSetting):
    """A setting that would let strangers in."""


class UnknownHost(RequestError):
    """The Host header names none of the hosts that this API is known as."""


class ForbiddenOrigin(RequestError):
    """A web page of an origin that is not allowed wants to change something."""


class Unauthenticated(RequestError):
    """No credential, or one that is malformed, unknown, expired or revoked: all answered alike."""


class CsrfTokenWrong(RequestError):
    """A request that changes something has the page's cookie, but not its session's token."""


class ScopeMissing(RequestError):
    """The credential is valid, but lacks ``scope``."""

    def __init__(self, message: str, scope: str) -> None:
        """``scope``: the one that the route demands."""
        super().__init__(message)
        self.members = {"scope": scope}


class TenantNotFound(RequestError):
    """No such tenant."""


class TenantExists(RequestError):
    """There is a tenant of this id already."""


class WorkerNotFound(RequestError):
    """No such worker, or it is not seen any more."""


class WorkerNotDrainable(RequestError):
    """A worker that must not rest."""


class KeyNotFound(RequestError):
    """No such API key."""
