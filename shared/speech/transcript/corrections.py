"""A person's correction of a segment: another text, in the time of what was heard.

Words that the correction leaves keep their times and confidences. Those in place of others share
the time that these took.
"""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from shared.speech.text.scripts import is_unspaced_letter
from shared.speech.transcript.transcript import Segment, Word

MAX_CHARS = 5_000
"""Of a corrected segment; one lasts 30 s at most."""


def correct(segment: Segment, text: str) -> Segment | None:
    """Return a segment that says ``text``, without white space around it; None if that is empty."""
    if text == segment.text:
        return segment
    written = list(_pieces(text, segment.separator))
    if not written:
        return None
    words = list(
        _align([part for word in segment.words for part in _parts(word)], written, segment)
    )
    known = [word.confidence for word in words if word.confidence is not None]
    confidence = sum(known) / len(known) if words and len(known) == len(words) else None
    changed = {"text": text, "words": words, "confidence": confidence, "decoding": None}
    return segment.model_copy(update=changed)


def _pieces(text: str, separator: str) -> Iterator[tuple[str, str]]:
    """Yield the separator and the text of each word; of unspaced scripts, of each character."""
    for token in text.split():
        for part in _split(token):
            yield separator, part
            separator = ""
        separator = " "


def _split(token: str) -> list[str]:
    """Split a token after each letter of an unspaced script, and before the first one."""
    parts = [token[0]]
    for character in token[1:]:
        is_mark = not character.isalnum()
        if is_mark or not (is_unspaced_letter(character) or is_unspaced_letter(parts[-1][0])):
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def _parts(word: Word) -> Iterator[Word]:
    """Yield a word as its pieces, which share its time."""
    parts = [part for token in word.text.split() for part in _split(token)]
    yield from _spread([(word.separator, parts[0]), *(("", part) for part in parts[1:])], word)


def _align(
    heard: Sequence[Word], written: Sequence[tuple[str, str]], segment: Segment
) -> Iterator[Word]:
    said = [word.text for word in heard]
    matcher = SequenceMatcher(None, said, [text for _, text in written], autojunk=False)
    for operation, first, last, begin, end in matcher.get_opcodes():
        if operation == "equal":
            for word, (separator, _) in zip(heard[first:last], written[begin:end], strict=True):
                yield word.model_copy(update={"separator": separator})
        elif heard and begin < end:
            start_s = heard[first].start if first < last else _end_before(heard, first, segment)
            end_s = heard[last - 1].end if first < last else _start_after(heard, first, segment)
            span = Word(text="", start=start_s, end=max(start_s, end_s))
            yield from _spread(written[begin:end], span)


def _end_before(heard: Sequence[Word], at: int, segment: Segment) -> float:
    return heard[at - 1].end if at else segment.start


def _start_after(heard: Sequence[Word], at: int, segment: Segment) -> float:
    return heard[at].start if at < len(heard) else segment.end


def _spread(pieces: Sequence[tuple[str, str]], span: Word) -> Iterator[Word]:
    """Yield words that share the time of one, and have its confidence."""
    n_chars = sum(len(text) for _, text in pieces)
    done = 0
    for separator, text in pieces:
        start = span.start + (span.end - span.start) * done / n_chars
        done += len(text)
        end = span.start + (span.end - span.start) * done / n_chars
        yield Word(
            text=text,
            separator=separator,
            start=round(start, 3),
            end=round(end, 3),
            confidence=span.confidence,
        )
