"""What a name of another service is, what becomes of it here, and what shows that."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a name is the name of."""

    ENDPOINT = "endpoint"
    FIELD = "field"
    MESSAGE = "message"
    CODE = "error code"
    METRIC = "metric"
    VARIABLE = "variable"
    OPTION = "option"
    MODEL = "model"
    FUNCTION = "function"
    BEHAVIOUR = "behaviour"


class Verdict(StrEnum):
    """What becomes of a name."""

    HONOURED = "honoured"
    """It is here, under this name."""
    ALIASED = "aliased"
    """It is here under another name."""
    LEFT_OUT = "left out"
    """It is not here, for the reason that is told."""


@dataclass(frozen=True, slots=True)
class Route:
    """Proof: the application answers this path; the method of a WebSocket is ``WS``."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Member:
    """Proof: a schema of the OpenAPI document has this member."""

    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class FormField:
    """Proof: the form of ``POST /transcribe`` has this field."""

    name: str


@dataclass(frozen=True, slots=True)
class Exposed:
    """Proof: ``/metrics`` has this metric."""

    name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """Proof: this variable, of another service, is read as a setting."""

    name: str


@dataclass(frozen=True, slots=True)
class Setting:
    """Proof: there is this setting."""

    name: str


@dataclass(frozen=True, slots=True)
class ModelName:
    """Proof: the catalogue knows this name, and means this model by it."""

    name: str
    model: str


@dataclass(frozen=True, slots=True)
class LanguageName:
    """Proof: this name of a language means this code."""

    name: str
    code: str


@dataclass(frozen=True, slots=True)
class Shown:
    """Proof: this test, in this file."""

    file: str
    test: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """Proof: what this WebSocket takes or sends has this type, member, value or code."""

    word: str
    path: str


Proof = (
    Route
    | Member
    | FormField
    | Exposed
    | Variable
    | Setting
    | ModelName
    | LanguageName
    | Shown
    | Spoken
)


@dataclass(frozen=True, slots=True)
class Name:
    """A name, and what becomes of it."""

    kind: Kind
    name: str
    verdict: Verdict
    says: str = ""
    """What it is here, or why it is not; a sentence without its full stop."""
    proof: Proof | None = None
    """What shows it; None for what is left out."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service, and all its names."""

    title: str
    names: Sequence[Name] = field(default_factory=tuple)
