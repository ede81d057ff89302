"""Whisper's vocabulary: language codes, prompts, and words from tokens.

All Whispers order their tokens alike: text, end of text, start of transcript, languages, tasks,
start of previous text, no speech, no timestamps, timestamps.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from shared.infra.errors import ModelError
from shared.speech.text.scripts import begins_word
from worker.engines.whisper.fallback import Segment

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TIMESTAMP_S = 0.02
"""Between one timestamp token and the next; also between two frames of the encoder's output."""
MAX_POSITIONS = 448
"""Most tokens of prompt and answer together, for a decoder of any size (n_text_ctx)."""
MAX_ANSWER_TOKENS = MAX_POSITIONS // 2
MAX_PREVIOUS_TOKENS = MAX_POSITIONS // 2 - 1
"""Most tokens of hotwords and prompt together, as in OpenAI's whisper/decoding.py."""

_ISO_CODES = {"jw": "jv"}
"""Whisper's language codes that are not ISO 639."""
_OPENING = frozenset("\"'“‘„«¿¡([{-–—「『（《〈【［｛")  # noqa: RUF001 - these are meant
"""Marks that belong to the word after them if they stand alone; others to the one before them."""


def iso_code(token: str) -> str:
    """Return the ISO 639 code of a language token, such as '<|en|>'."""
    code = token.removeprefix("<|").removesuffix("|>")
    return _ISO_CODES.get(code, code)


class WordTokens(NamedTuple):
    """A word with its punctuation and the white space around it, and its number of tokens."""

    text: str
    n_tokens: int


class Vocabulary:
    """The tokens of one Whisper."""

    def __init__(self, tokenizer: "Tokenizer", *, multilingual: bool) -> None:
        """Look up the special tokens; a multilingual model takes language and task.

        Raises:
            ModelError: the tokenizer is not a Whisper's.
        """
        self._tokenizer = tokenizer
        self.multilingual = multilingual
        self.end = self._id("<|endoftext|>")
        self.start = self._id("<|startoftranscript|>")
        self._previous = self._id("<|startofprev|>")
        self._tasks = {task: self._id(f"<|{task}|>") for task in ("transcribe", "translate")}
        self.no_timestamps = self._id("<|notimestamps|>")
        self.first_timestamp = self.no_timestamps + 1
        # Its name changed from <|nocaptions|> to <|nospeech|> after two generations, not its place.
        self.no_speech = self.no_timestamps - 1
        self.languages = {
            iso_code(str(tokenizer.id_to_token(token))): token
            for token in range(self.start + 1, min(self._tasks.values()))
        }
        """ISO 639 code -> token."""

    @property
    def never_answered(self) -> list[int]:
        """Tokens that steer the decoder and are never part of an answer."""
        return [self.start, *range(min(self._tasks.values()), self.no_timestamps)]

    def start_sequence(self, language: str, task: Literal["transcribe", "translate"]) -> list[int]:
        """Return the tokens that tell the decoder what to do.

        Raises:
            ModelError: the model has no token for the language.
        """
        if not self.multilingual:
            return [self.start]
        if language not in self.languages:
            raise ModelError(f"the model's vocabulary has no language '{language}'")
        return [self.start, self.languages[language], self._tasks[task]]

    def previous_text(self, prompt: str | None, hotwords: str | None) -> list[int]:
        """Return hotwords and prompt as tokens of previous text; empty if there is neither.

        If they are too long together, the first hotwords and the end of the prompt are kept; each
        of the two gets at least half of the room.
        """
        hot = self._encode(hotwords)
        text = self._encode(prompt)
        hot = hot[: MAX_PREVIOUS_TOKENS - min(len(text), MAX_PREVIOUS_TOKENS // 2)]
        text = text[max(0, len(text) - (MAX_PREVIOUS_TOKENS - len(hot))) :]
        return [self._previous, *hot, *text] if hot or text else []

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of text tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    def split_segments(self, tokens: Sequence[int]) -> tuple[Segment, ...]:
        """Split an answer at its timestamps."""
        segments: list[Segment] = []
        start_s: float | None = None
        text: list[int] = []
        for token in tokens:
            if token >= self.first_timestamp:
                at_s = (token - self.first_timestamp) * TIMESTAMP_S
                if text:
                    segments.append(Segment(start_s, at_s, tuple(text)))
                    text = []
                start_s = at_s
            elif token < self.end:
                text.append(token)
        if text:
            segments.append(Segment(start_s, None, tuple(text)))
        return tuple(segments)

    def split_words(self, tokens: Sequence[int]) -> list[WordTokens]:
        """Split a segment's tokens into words; each token is in one, which may be blank.

        Words keep their white space, so all of them, joined, are the decoded text.
        """
        words: list[WordTokens] = []
        for text, n_tokens in self._characters(tokens):
            last = words[-1].text if words else ""
            starts_word = text[:1].isspace() or last[-1:].isspace() or begins_word(last, text)
            # White space alone and opening marks alone belong to the word after them.
            is_begun = _OPENING.issuperset(last.strip())
            if words and (is_begun or not starts_word):
                words[-1] = WordTokens(last + text, words[-1].n_tokens + n_tokens)
            else:
                words.append(WordTokens(text, n_tokens))
        return words

    def _characters(self, tokens: Sequence[int]) -> Iterator[WordTokens]:
        """Yield the shortest runs of tokens that make whole characters."""
        pending: list[int] = []
        for i, token in enumerate(tokens):
            pending.append(token)
            text = self.decode(pending)
            if not text.endswith("\ufffd") or i == len(tokens) - 1:
                yield WordTokens(text, len(pending))
                pending = []

    def _encode(self, text: str | None) -> list[int]:
        if not text or not text.strip():
            return []
        return list(self._tokenizer.encode(f" {text.strip()}", add_special_tokens=False).ids)

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ModelError(f"the vocabulary has no {token}: it is not a Whisper's")
        return int(found)
