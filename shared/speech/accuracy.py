"""Word and character error rates: how far a transcript is from what was really said.

Both texts are normalised alike before they are compared:

1. Unicode NFKC, then lower case;
2. apostrophes and invisible format characters (soft hyphens, joiners) are dropped: "don't" is
   "dont";
3. every other punctuation mark and symbol becomes a space: "well-known" is two words;
4. runs of white space become one space.

Nothing else is done: numbers and contractions are compared as they are written ("20" is not
"twenty", "do not" is not "don't"), accents and fillers count.

A word is what stands between spaces. In languages that are written without spaces, and there
alone, spaces are dropped and every character is a word, so that both rates are the same.
"""

import unicodedata

from pydantic import BaseModel, Field
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

from shared.infra.errors import InvalidRequest
from shared.speech.transcript import UNSPACED_LANGUAGES

MAX_REFERENCE_CHARS = 2_000_000
"""More than three times what is said in twelve hours of fast speech."""

_APOSTROPHES = frozenset("'\u2019\u02bc\u2018`\u00b4")

_USUAL_ERROR_RATE = 0.1
"""Where the search for the edit distance begins: a good guess makes it some ten times faster."""


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
        """Return the rates that follow from counts, of one transcript or pooled over many."""
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
        InvalidRequest: it has no words, is too long, or is no text that can be stored.
    """
    if len(reference) > MAX_REFERENCE_CHARS:
        raise InvalidRequest(f"the reference is longer than {MAX_REFERENCE_CHARS:,} characters")
    if "\0" in reference:
        raise InvalidRequest("the reference contains a NUL character")
    if not any(character.isalnum() for character in reference):
        raise InvalidRequest("the reference has no words")


def measure(reference: str, transcript_text: str, language: str | None) -> Accuracy:
    """Compare a transcript with what was really said.

    The error counts are Levenshtein distances: the least number of substitutions, deletions and
    insertions. At an error rate of 10 % an hour of speech takes a tenth of a second, and twelve
    hours some two seconds; of texts that have nothing in common, ten times as much.

    Args:
        reference: what was really said, as people write it.
        transcript_text: what the model made of it.
        language: ISO 639 code of both; None: not known, taken to be written with spaces.

    Raises:
        InvalidRequest: the reference has no words.
    """
    check_reference(reference)
    said, heard = normalize(reference), normalize(transcript_text)
    if language in UNSPACED_LANGUAGES:
        said, heard = said.replace(" ", ""), heard.replace(" ", "")
        said_words, heard_words = list(said), list(heard)
    else:
        said_words, heard_words = said.split(), heard.split()
    return Accuracy.of_counts(
        words=len(said_words),
        word_errors=_distance(said_words, heard_words),
        characters=len(said),
        character_errors=_distance(said, heard),
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


def _distance(said: str | list[str], heard: str | list[str]) -> int:
    hint = int(len(said) * _USUAL_ERROR_RATE)
    # Of one pair: unlike Levenshtein.distance this lets other threads run meanwhile.
    return int(cpdist([said], [heard], scorer=Levenshtein.distance, score_hint=hint)[0])
