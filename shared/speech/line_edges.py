"""Which marks begin no line of a subtitle, and which end none."""

import unicodedata

_CLOSING = frozenset(
    ",;!?)]}、。，．！？；：）］｝」』〉》】،؛؟।"  # noqa: RUF001
    "々ーぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ"
)
"""What never begins a line: closing marks, and what belongs to the character before it."""
_CLOSING_ALONE = frozenset('.:…»”’"%')  # noqa: RUF001
"""What never begins one unless there are letters after it."""
OPENING = frozenset("([{„‚¿¡（［｛「『〈《【")  # noqa: RUF001
"""What never ends a line."""


def must_not_begin(text: str) -> bool:
    """Say whether no line may begin with the text: with a closing mark, or within a character."""
    first = text[:1]
    if first in _CLOSING_ALONE:
        return not any(map(str.isalnum, text))
    return first in _CLOSING or unicodedata.category(first).startswith("M")


def must_not_end(text: str) -> bool:
    return text[-1:] in OPENING
