"""English number words as digits: "twenty one" is 21, "nineteen eighty four" is 1984.

A number below ten that stands alone stays a word, as most style guides have it: "one of them".
"""

from collections.abc import Sequence
from dataclasses import dataclass

_UNITS = {
    "zero": 0,
    "oh": 0,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
}
_TEENS = {
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "thirteen": 13,
    "fourteen": 14,
    "fifteen": 15,
    "sixteen": 16,
    "seventeen": 17,
    "eighteen": 18,
    "nineteen": 19,
}
_TENS = {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_KNOWN = {*_UNITS, *_TEENS, *_TENS, *_SCALES, "hundred"}
_LEAST_ALONE = 10
_LEAST_DIGITS = 3
"""So many single digits in a row are one number, as of a telephone."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number in words [start, stop)."""

    start: int
    stop: int
    digits: str


def find_numbers(words: Sequence[str]) -> list[Number]:
    """Return the numbers in words, which are in lower case and without marks around them.

    A word with a hyphen, such as "twenty-one", is a number by itself or a part of one. "" ends a
    number: it stands where something was said that cannot be within one.
    """
    parts = [(n, part) for n, word in enumerate(words) for part in (word.split("-") or [""])]
    found = []
    at = 0
    while at < len(parts):
        taken = _digits(parts, at) or _cardinal(parts, at)
        if taken is None:
            at += 1
            continue
        stop, digits = taken
        first, last = parts[at][0], parts[stop - 1][0]
        whole = (at == 0 or parts[at - 1][0] != first) and (
            stop == len(parts) or parts[stop][0] != last
        )
        if whole:
            found.append(Number(first, last + 1, digits))
        at = stop
    return found


def may_go_on(word: str) -> bool:
    """Return whether a number that has this word may have the next one, too."""
    return any(part in _KNOWN or part in {"and", "point"} for part in word.split("-"))


_Parts = Sequence[tuple[int, str]]


def _digits(parts: _Parts, at: int) -> tuple[int, str] | None:
    stop = at
    while stop < len(parts) and parts[stop][1] in _UNITS:
        stop += 1
    is_scaled = stop < len(parts) and parts[stop][1] in {"hundred", *_SCALES}
    if stop - at < _LEAST_DIGITS or is_scaled:
        return None
    return stop, "".join(str(_UNITS[word]) for _, word in parts[at:stop])


def _cardinal(parts: _Parts, at: int) -> tuple[int, str] | None:
    first = _below_hundred(parts, at)
    if first is None:
        return None
    stop, value = first
    second = _below_hundred(parts, stop) if 10 <= value <= 99 else None
    if second is not None and second[1] >= _LEAST_ALONE and not _is_scale(parts, second[0]):
        return second[0], f"{value}{second[1]}"  # a year: nineteen eighty four
    total, group = 0, value
    smallest = 10**15
    while stop < len(parts):
        word = parts[stop][1]
        if word == "hundred" and 0 < group < 100:
            group, stop = group * 100, stop + 1
        elif word in _SCALES and group and _SCALES[word] < smallest:
            smallest = _SCALES[word]
            total, group, stop = total + group * smallest, 0, stop + 1
        else:
            next_at = stop + (word == "and")
            more = _below_hundred(parts, next_at)
            fits = more is not None and (group % 100 == 0 if group else total > 0)
            if more is None or not fits or (group and group < 100):
                break
            stop, group = more[0], group + more[1]
    value = total + group
    if value < _LEAST_ALONE and stop - at == 1:
        return _decimal(parts, stop, value)
    return _decimal(parts, stop, value) or (stop, str(value))


def _decimal(parts: _Parts, at: int, value: int) -> tuple[int, str] | None:
    """Return the number if "point" and digits follow."""
    if at >= len(parts) or parts[at][1] != "point":
        return None
    stop = at + 1
    while stop < len(parts) and parts[stop][1] in _UNITS:
        stop += 1
    if stop == at + 1:
        return None
    return stop, f"{value}." + "".join(str(_UNITS[word]) for _, word in parts[at + 1 : stop])


def _below_hundred(parts: _Parts, at: int) -> tuple[int, int] | None:
    word = parts[at][1] if at < len(parts) else ""
    if word in _TENS:
        unit = _UNITS.get(parts[at + 1][1], 0) if at + 1 < len(parts) else 0
        return (at + 2, _TENS[word] + unit) if unit else (at + 1, _TENS[word])
    if word in _TEENS:
        return at + 1, _TEENS[word]
    if word in _UNITS and word != "oh":
        return at + 1, _UNITS[word]
    return None


def _is_scale(parts: _Parts, at: int) -> bool:
    return at < len(parts) and parts[at][1] in {"hundred", *_SCALES}
