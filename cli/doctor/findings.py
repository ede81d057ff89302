"""What an examination finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from shared.infra.errors import LonghandError
from shared.infra.settings import Settings


class Grade(StrEnum):
    """How grave a finding is."""

    GOOD = "ok"
    WARNING = "warning"
    """It works, and not as well, as fast or as safely as it could."""
    BAD = "error"
    """Jobs are not taken, not done, or lost with it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the page."""

    grade: Grade
    part: str
    """What was looked at: a word or two."""
    sentence: str


Examination = Callable[[Settings], Iterator[Finding]]
"""Looks at one part; it may raise ``LonghandError``, which is bad news of that part."""


def good(part: str, sentence: str) -> Finding:
    """Return what is as it should be."""
    return Finding(Grade.GOOD, part, sentence)


def warning(part: str, sentence: str) -> Finding:
    """Return what could be better."""
    return Finding(Grade.WARNING, part, sentence)


def bad(part: str, sentence: str) -> Finding:
    """Return what must be mended."""
    return Finding(Grade.BAD, part, sentence)


def findings(part: str, examination: Examination, settings: Settings) -> Iterator[Finding]:
    """Yield what an examination finds, and what ended it early."""
    try:
        yield from examination(settings)
    except LonghandError as error:
        yield bad(part, str(error))
