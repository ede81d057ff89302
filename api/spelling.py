"""Suggestions for misspelt names in a request."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

_LIKENESS = 0.65
"""It forgives a letter or two, or half of the name missing; 'speed' is not 'speakers'."""

_HABITS = {
    **dict.fromkeys(
        ("audio", "audio_file", "media", "upload", "recording", "video"), ("file", "audio_url")
    ),
    **dict.fromkeys(
        ("url", "uri", "link", "file_url", "media_url", "source_url", "audio_uri", "upload_url"),
        ("audio_url",),
    ),
    **dict.fromkeys(
        ("content", "data", "base64", "audio_content", "audio_data", "file"), ("audio_base64",)
    ),
    **dict.fromkeys(("file_id", "media_id"), ("upload_id",)),
    **dict.fromkeys(("filename", "name", "title"), ("file_name",)),
    **dict.fromkeys(("lang", "language_code", "locale"), ("language",)),
    **dict.fromkeys(("engine", "model_id"), ("model",)),
    **dict.fromkeys(("callback", "callback_url", "notify_url", "webhook"), ("webhook_url",)),
    **dict.fromkeys(("keywords", "keyterms", "phrases", "vocabulary", "word_boost"), ("hotwords",)),
    **dict.fromkeys(("translate", "translation"), ("task",)),
    **dict.fromkeys(("initial_prompt", "context"), ("prompt",)),
    **dict.fromkeys(("text", "transcript", "truth"), ("reference",)),
    **dict.fromkeys(("response_format", "output_format"), ("format",)),
    **dict.fromkeys(("page_size", "count"), ("limit",)),
    **dict.fromkeys(("after", "before", "page"), ("cursor",)),
    **dict.fromkeys(("urgency", "importance", "rank"), ("priority",)),
    **dict.fromkeys(("query", "search", "terms"), ("q",)),
    "timeout": ("wait",),
}
"""Other services' names for what Longhand names differently: the first of these that there is."""


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that was probably meant, or None."""
    plain = name.lower().replace("-", "_")
    for habit in _HABITS.get(plain, ()):
        if habit in known:
            return habit
    return next(iter(get_close_matches(plain, known, n=1, cutoff=_LIKENESS)), None)


def right_names(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Return the known name that was probably meant, for each name that has one."""
    meant = {name: nearest(name, known) for name in names}
    return {name: right for name, right in meant.items() if right is not None}


def with_nearest(names: Iterable[str], known: Collection[str]) -> str:
    """Return the names as a list to read, each with the known name that was probably meant."""
    return ", ".join(_with_nearest(name, known) for name in names)


def _with_nearest(name: str, known: Collection[str]) -> str:
    meant = nearest(name, known)
    return repr(name) if meant is None else f"{name!r} (did you mean {meant!r}?)"
