"""Which marks begin no line of a subtitle, and which end none."""

import unicodedata

_CLOSING = frozenset(
    ",;!?)]}、。，．！？；：）］｝」』〉》】،؛؟।"  # noqa: RUF001
    "々ーぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ"
)
"""Characters that never begin a line: closing marks, and what belongs to the one before them."""
_CLOSING_ALONE = frozenset('.:…»”’"%')  # noqa: RUF001
"""Marks that begin a line only where letters follow."""
OPENING = frozenset("([{„‚¿¡（［｛「『〈《【")  # noqa: RUF001
"""Marks that never end a line."""


def must_not_begin(text: str) -> bool:
    """Whether no line may begin with the text: it starts with a closing or a combining mark."""
    first = text[:1]
    if first in _CLOSING_ALONE:
        return not any(map(str.isalnum, text))
    return first in _CLOSING or unicodedata.category(first).startswith("M")


def must_not_end(text: str) -> bool:
    """Whether no line may end with the text: it ends with an opening mark."""
    return text[-1:] in OPENING
