"""The roots of all errors."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar


class LonghandError(Exception):
    """The base of all errors raised on purpose."""

    code: ClassVar[str] = "error"

    def __init_subclass__(cls) -> None:
        if "code" not in vars(cls):
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class PermanentError(LonghandError):
    """Trying again would give the same result."""


class TransientError(LonghandError):
    """A later attempt may succeed."""


class RequestError(LonghandError):
    """A request that cannot be served as asked."""

    members: Mapping[str, Any] = {}
    """What programs are told beside the code; JSON values."""
