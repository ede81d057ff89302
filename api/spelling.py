"""Suggestions for misspelt names in a request."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

_LIKENESS = 0.6
"""difflib's default: it forgives a letter or two, or half of the name missing."""

_HABITS = {
    **dict.fromkeys(("audio", "audio_file", "media", "upload", "recording", "video"), "file"),
    **dict.fromkeys(("engine", "model_id"), "model"),
    **dict.fromkeys(("callback", "callback_url", "notify_url"), "webhook_url"),
    **dict.fromkeys(("keywords", "keyterms", "phrases", "vocabulary", "word_boost"), "hotwords"),
    **dict.fromkeys(("translate", "translation"), "task"),
    **dict.fromkeys(("initial_prompt", "context"), "prompt"),
    **dict.fromkeys(("text", "transcript", "truth"), "reference"),
    **dict.fromkeys(("response_format", "output_format"), "format"),
    **dict.fromkeys(("page_size", "count"), "limit"),
    **dict.fromkeys(("after", "before", "page"), "cursor"),
    **dict.fromkeys(("urgency", "importance", "rank"), "priority"),
    **dict.fromkeys(("query", "search", "terms"), "q"),
    "timeout": "wait",
}
"""Other services' names for what Longhand names differently, if spelling suggests nothing."""


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that was probably meant, or None."""
    plain = name.lower().replace("-", "_")
    habit = _HABITS.get(plain)
    if habit in known:
        return habit
    return next(iter(get_close_matches(plain, known, n=1, cutoff=_LIKENESS)), None)


def with_nearest(names: Iterable[str], known: Collection[str]) -> str:
    """Return the names as a list to read, each with the known name that was probably meant."""
    return ", ".join(_with_nearest(name, known) for name in names)


def _with_nearest(name: str, known: Collection[str]) -> str:
    meant = nearest(name, known)
    return repr(name) if meant is None else f"{name!r} (did you mean {meant!r}?)"
