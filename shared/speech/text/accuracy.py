"""Word and character error rates: how far a transcript is from what was really said.

Both texts are normalised before they are compared:

1. Unicode NFKC, then lower case;
2. apostrophes and invisible format characters (soft hyphens, joiners) are dropped: "don't" is
   "dont";
3. every other punctuation mark and symbol becomes a space: "well-known" is two words;
4. runs of white space become one space.

Numbers and contractions are compared as they are written ("20" is not "twenty", "do not" is not
"don't"). Accents and fillers count.

Words are separated by spaces. In languages that are written without spaces, spaces are dropped and
every character is a word, so that both rates are the same.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from math import inf

from pydantic import BaseModel, Field
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

from shared.infra.errors import EmptyReference, InvalidRequest

UNSPACED_LANGUAGES = frozenset({"bo", "km", "lo", "my", "ja", "th", "yue", "zh"})
"""Languages written without spaces between words, as ISO 639 codes."""

MAX_REFERENCE_CHARS = 2_000_000
"""More than three times what is said in twelve hours of fast speech."""

_APOSTROPHES = frozenset("'\u2019\u02bc\u2018`\u00b4")

_USUAL_ERROR_RATE = 0.1
"""The search for the edit distance begins here: a good guess makes it some ten times faster."""


class Accuracy(BaseModel):
    """How a transcript compares with its reference, both normalised."""

    wer: float = Field(description="word errors per word of the reference; may exceed 1")
    cer: float = Field(description="character errors per character of the reference")
    words: int = Field(description="words of the reference")
    word_errors: int = Field(description="least number of words substituted, deleted or inserted")
    characters: int = Field(description="characters of the reference, spaces between words too")
    character_errors: int

    @classmethod
    def of_counts(
        cls, *, words: int, word_errors: int, characters: int, character_errors: int
    ) -> "Accuracy":
        """Return the rates of these counts, which are of one transcript or pooled over many."""
        return cls(
            wer=round(word_errors / words, 4),
            cer=round(character_errors / characters, 4),
            words=words,
            word_errors=word_errors,
            characters=characters,
            character_errors=character_errors,
        )


def check_reference(reference: str) -> None:
    """Refuse a reference against which nothing can be measured.

    Raises:
        EmptyReference: it has no words.
        InvalidRequest: it is too long, or is no text that can be stored.
    """
    if len(reference) > MAX_REFERENCE_CHARS:
        raise InvalidRequest(f"the reference is longer than {MAX_REFERENCE_CHARS:,} characters")
    if "\0" in reference:
        raise InvalidRequest("the reference contains a NUL character")
    if not any(character.isalnum() for character in reference):
        raise EmptyReference("the reference has no words")


def measure(reference: str, transcript_text: str, language: str | None) -> Accuracy:
    """Compare a transcript with what was really said, like ``measure_within`` without a bound.

    Twelve hours of English take about a second of one core where one character in ten is wrong, and
    some ten seconds where the texts have nothing in common.
    """
    accuracy = measure_within(reference, transcript_text, language, max_cells=inf)
    assert accuracy is not None, "without a bound there is always a result"
    return accuracy


def measure_within(
    reference: str, transcript_text: str, language: str | None, *, max_cells: float
) -> Accuracy | None:
    """Compare a transcript with what was really said; None where that would take too long.

    The error counts are Levenshtein distances: the least number of substitutions, deletions and
    insertions.

    Args:
        reference: what was really said, as people write it.
        transcript_text: what the model made of it.
        language: ISO 639 code of both; None: not known, taken to be written with spaces.
        max_cells: the most cells of the characters' table of distances (one character of the
            reference against one of the transcript) that may be computed. A core computes 40
            billion a second of English, 10 billion of Chinese. Long texts that are alike stay
            within it, because only cells near the diagonal are computed.

    Raises:
        InvalidRequest: the reference has no words.
    """
    check_reference(reference)
    said, heard = normalize(reference), normalize(transcript_text)
    if language in UNSPACED_LANGUAGES:
        said, heard = said.replace(" ", ""), heard.replace(" ", "")
    character_errors = _distance(said, heard, max_cells)
    if character_errors is None:
        return None
    if language in UNSPACED_LANGUAGES:
        n_words, word_errors = len(said), character_errors
    else:
        words = said.split()
        # Words are so much fewer than characters that their table is always computed whole.
        found = _distance(words, heard.split(), inf)
        assert found is not None, "without a bound there is always a result"
        n_words, word_errors = len(words), found
    return Accuracy.of_counts(
        words=n_words,
        word_errors=word_errors,
        characters=len(said),
        character_errors=character_errors,
    )


def normalize(text: str) -> str:
    """Return ``text`` as it is compared; the head of this file says what is done to it."""
    folded = unicodedata.normalize("NFKC", text).lower()
    table = {ord(character): _replacement(character) for character in set(folded)}
    return " ".join(folded.translate(table).split())


def _replacement(character: str) -> str:
    category = unicodedata.category(character)
    if character in _APOSTROPHES or category == "Cf":
        return ""
    return " " if category[0] in "PS" else character


def _distance(said: Sequence[str], heard: Sequence[str], max_cells: float) -> int | None:
    """Return the Levenshtein distance; None where more than ``max_cells`` would be computed."""
    longer = max(len(said), len(heard))
    largest = longer
    if len(said) * len(heard) > max_cells:
        largest = int(max_cells / longer)  # only cells within ``largest`` of the diagonal count
    hint = min(largest, int(len(said) * _USUAL_ERROR_RATE))
    # cpdist of one pair releases the GIL; Levenshtein.distance holds it throughout.
    pair = _numbered(said, heard)
    (found,) = cpdist(*pair, scorer=Levenshtein.distance, score_hint=hint, score_cutoff=largest)
    return int(found) if found <= largest else None


def _numbered(said: Sequence[str], heard: Sequence[str]) -> tuple[list[str], list[str]]:
    """Replace each word or character by the character of its rank by frequency.

    The distance stays the same. rapidfuzz looks up characters below 256 in a table and hashes
    others, so this makes Cyrillic and Chinese twice as fast.
    """
    by_frequency = Counter(chain(said, heard)).most_common()
    number = {symbol: chr(rank) for rank, (symbol, _) in enumerate(by_frequency)}
    return ["".join(map(number.__getitem__, said))], ["".join(map(number.__getitem__, heard))]
