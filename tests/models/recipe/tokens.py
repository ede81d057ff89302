"""Whisper's vocabulary in small: byte-level text tokens and every special and timestamp token."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.models.whisper.tokenization_whisper import LANGUAGES

N_TEXT_TOKENS = 420
"""256 bytes and 164 merges: a frequent syllable is one token, a word one to four."""
TIMESTAMPS_PER_S = 50
N_TIMESTAMPS = 30 * TIMESTAMPS_PER_S + 1


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer, and the ids that training names."""

    tokenizer: Tokenizer

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def id(self, token: str) -> int:
        """Return the id of a token that must exist."""
        found = self.tokenizer.token_to_id(token)
        assert found is not None, token
        return int(found)

    def encode(self, text: str) -> list[int]:
        """Return the text tokens of words; as in Whisper, each word brings the space before it."""
        return list(self.tokenizer.encode(f" {text}", add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the words of text tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def timestamp(self, seconds: float) -> int:
        """Return the token nearest to a time in the window."""
        return self.first_timestamp + min(round(seconds * TIMESTAMPS_PER_S), N_TIMESTAMPS - 1)

    @cached_property
    def first_timestamp(self) -> int:
        return self.id("<|0.00|>")

    @cached_property
    def end(self) -> int:
        return self.id("<|endoftext|>")

    @cached_property
    def start(self) -> int:
        return self.id("<|startoftranscript|>")


def make_vocabulary(words: Sequence[str]) -> Vocabulary:
    """Learn the merges from the word list, then add Whisper's special tokens in Whisper's order."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_TEXT_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {word}" for word in words], trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    # CTranslate2 takes a vocabulary with the empty token for a multilingual one.
    vocabulary = {**learned["vocab"], "": len(learned["vocab"])}
    tokenizer.model = models.BPE(vocabulary, [tuple(pair) for pair in learned["merges"]])
    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in LANGUAGES),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.add_tokens(
        [
            AddedToken(f"<|{i / TIMESTAMPS_PER_S:.2f}|>", normalized=False)
            for i in range(N_TIMESTAMPS)
        ]
    )
    return Vocabulary(tokenizer)
