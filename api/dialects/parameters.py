"""Tables of what a dialect takes and answers. Requests are checked by them, and docs/dialects.md is
written from them, so that the two cannot differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from api.spelling import with_nearest
from shared.infra.errors import InvalidParameter, UnsupportedParameter


class Verdict(StrEnum):
    """What becomes of a parameter."""

    ACCEPTED = "accepted"
    """It means here what it means there."""
    ALIASED = "aliased"
    """It stands for something of ours."""
    REFUSED = "refused"
    """A request that asks for it is answered with an error: it would change the answer."""
    IGNORED = "no effect"
    """It is taken and changes nothing, least of all the text."""


class Presence(StrEnum):
    """Where a member of an answer comes from."""

    SENT = "sent"
    COMPUTED = "computed"
    """It is derived from other things than there, as the row says."""
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, under the name that the vendor's SDK has for it."""

    name: str
    verdict: Verdict
    says: str
    """What it means here, or why it is refused; a sentence without its full stop."""
    harmless: tuple[str, ...] = ()
    """Values of a refused parameter that ask for nothing, in lower case, as ``false``."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an answer; one within another is written as ``words[].start``."""

    name: str
    presence: Presence
    says: str = ""


def accepted(name: str, says: str = "") -> Parameter:
    """Return a parameter that means the same here."""
    return Parameter(name, Verdict.ACCEPTED, says)


def aliased(name: str, says: str) -> Parameter:
    """Return a parameter that stands for something of ours."""
    return Parameter(name, Verdict.ALIASED, says)


def refused(name: str, says: str, *harmless: str) -> Parameter:
    """Return a parameter that is refused, except for ``harmless`` values and empty ones."""
    return Parameter(name, Verdict.REFUSED, says, harmless)


def ignored(name: str, says: str) -> Parameter:
    """Return a parameter without effect."""
    return Parameter(name, Verdict.IGNORED, says)


def sent(*names: str) -> tuple[Member, ...]:
    """Return members that need no word of explanation."""
    return tuple(Member(name, Presence.SENT) for name in names)


def computed(name: str, says: str) -> Member:
    """Return a member that is derived."""
    return Member(name, Presence.COMPUTED, says)


def left_out(name: str, says: str) -> Member:
    """Return a member that is never sent."""
    return Member(name, Presence.LEFT_OUT, says)


@dataclass(frozen=True, slots=True)
class Operation:
    """A request of a dialect, or a message of its socket: what it takes and what it answers."""

    title: str
    """As ``POST /v1/audio/transcriptions``."""
    takes: Sequence[Parameter] = ()
    answers: Sequence[Member] = ()
    says: str = ""
    """What else there is to know; sentences."""

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters by name."""
        return {parameter.name: parameter for parameter in self.takes}

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is given and counts: neither without effect, nor harmless, nor empty.

        Raises:
            InvalidParameter: a name is unknown.
            UnsupportedParameter: a parameter is refused.
        """
        known = self.parameters
        counts: dict[str, Any] = {}
        for name, value in given.items():
            parameter = known.get(name)
            if parameter is None:
                raise InvalidParameter(f"unknown parameter: {with_nearest([name], known)}", name)
            if value in (None, "", [], {}):
                continue
            if parameter.verdict is Verdict.REFUSED:
                if str(value).lower() not in parameter.harmless:
                    raise UnsupportedParameter(f"{name}: {parameter.says}", name)
            elif parameter.verdict is not Verdict.IGNORED:
                counts[name] = value
        return counts
