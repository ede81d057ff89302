"""Names that a request has wrong, and the right ones that they are nearest to."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

_LIKENESS = 0.6
"""difflib's own default: a letter or two wrong, or one half of the name missing."""

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
    "timeout": "wait",
}
"""What other services call the same thing, where spelling alone does not lead to our name."""


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return which of the known names was meant, if one of them is likely."""
    plain = name.lower().replace("-", "_")
    habit = _HABITS.get(plain)
    if habit in known:
        return habit
    return next(iter(get_close_matches(plain, known, n=1, cutoff=_LIKENESS)), None)


def with_nearest(names: Iterable[str], known: Collection[str]) -> str:
    """Return the names as a list to read, each with what was probably meant by it."""
    return ", ".join(_with_nearest(name, known) for name in names)


def _with_nearest(name: str, known: Collection[str]) -> str:
    meant = nearest(name, known)
    return repr(name) if meant is None else f"{name!r} (did you mean {meant!r}?)"
