"""Pages of which a part, between two marks, is written from the code."""

from pathlib import Path


def with_part(page: Path, begin: str, part: str, end: str) -> str:
    """Return the page's text with what is between the two marks replaced by ``part``.

    Raises:
        ValueError: the page does not have the two marks.
    """
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"{page}: nothing between {begin.strip()} and {end.strip()}")
    return before + begin + part + end + after
