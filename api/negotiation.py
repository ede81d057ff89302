"""What a client takes and what it has: ``Accept`` and ``If-None-Match`` (RFC 9110)."""

import re
from collections.abc import Iterator, Sequence

_QUALITY = re.compile(r"q=(0(\.[0-9]{0,3})?|1(\.0{0,3})?)", re.IGNORECASE)


def choose_media_type(accept: str, offered: Sequence[str]) -> str | None:
    """Return the offered type that a client likes best, the first of equals; None: it takes none.

    ``accept`` is the header's value; without one, a client takes anything. Of the ranges that a
    type is in, the most specific one decides. What is no media range counts for nothing.
    """
    ranges = dict(_ranges(accept))
    if not accept.strip():
        return offered[0]
    liked = {each: _quality(ranges, each) for each in offered}
    best = max(liked.values())
    return next(each for each in offered if liked[each] == best) if best > 0 else None


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for each in accept.split(","):
        media_range, *parameters = (part.strip().lower() for part in each.split(";"))
        quality = 1.0
        for parameter in parameters:
            if found := _QUALITY.fullmatch(parameter):
                quality = float(found[1])
        yield media_range, quality


def _quality(ranges: dict[str, float], media_type: str) -> float:
    kind = media_type.partition("/")[0]
    known = (ranges.get(each) for each in (media_type, f"{kind}/*", "*/*"))
    return next((quality for quality in known if quality is not None), 0.0)


def has_current(if_none_match: str, etag: str) -> bool:
    """Whether a client says that it has what ``etag`` stands for."""
    tags = (each.strip().removeprefix("W/") for each in if_none_match.split(","))
    return any(tag in ("*", etag) for tag in tags)
