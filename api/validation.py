"""Validation errors, as clients see them."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from pydantic import ValidationError

from api.spelling import nearest, right_names
from shared.infra.errors import InvalidRequest, MisnamedField, RequestError, UnsupportedLanguage
from shared.models.options import UNKNOWN_LANGUAGE

_LARGE_NUMBER = re.compile(r"\b\d{4,}\b(?!-)")
"""But no year of a date."""


class Invalid(Protocol):
    """An error of pydantic's, or of a framework that wraps one."""

    def errors(self) -> Iterable[Any]:
        """Return what is wrong, an entry with ``type``, ``loc`` and ``msg`` for each input."""


def describe(error: Invalid, known: Collection[str] = ()) -> list[dict[str, str]]:
    """Return what is wrong with which input, without pydantic's internals or the input itself.

    ``known`` are the names of which an unknown one may be a misspelling.
    """
    return [
        {"field": ".".join(str(part) for part in item["loc"]), "message": _message(item, known)}
        for item in error.errors()
    ]


def summarize(errors: Sequence[Mapping[str, str]]) -> str:
    """Return one sentence that names every wrong input."""
    return "; ".join(f"{error['field']}: {error['message']}" for error in errors)


def refusal(error: ValidationError, known: Collection[str], where: str = "") -> RequestError:
    """Return the refusal of what a client sent, from what pydantic says of it.

    ``where`` begins the sentence, ``known`` is as for ``describe``.
    """
    items = error.errors()
    told = where + summarize(describe(error, known))
    if {item["type"] for item in items} == {UNKNOWN_LANGUAGE}:
        return UnsupportedLanguage(told)
    strange = [str(item["loc"][-1]) for item in items if item["type"] == "extra_forbidden"]
    names = right_names(strange, known)
    return MisnamedField(told, names) if names else InvalidRequest(told)


def _message(item: Mapping[str, Any], known: Collection[str]) -> str:
    if item["type"] == "extra_forbidden":
        meant = nearest(str(item["loc"][-1]), known)
        return "unknown" if meant is None else f"unknown (did you mean {meant!r}?)"
    return _LARGE_NUMBER.sub(lambda found: f"{int(found[0]):,}", str(item["msg"]))


def whole(given: object) -> object:
    """Return 3 for 3.0, which JSON Schema takes for an integer, too."""
    return int(given) if isinstance(given, float) and given.is_integer() else given
