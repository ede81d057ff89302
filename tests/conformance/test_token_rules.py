"""The rules of whisper_rules are those of the library, which run item by item."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation.logits_process import (
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    WhisperTimeStampLogitsProcessor,
)

from bench.gpu.shapes import special_tokens, timestamp_tokens
from worker.engines.whisper.gpu_batch import runs_of
from worker.engines.whisper.token_rules import NextToken
from worker.engines.whisper.vocabulary import Vocabulary

N_TEXT = 40
TOKENS = [*(f"w{i}" for i in range(N_TEXT)), *special_tokens(["en", "de"]), *timestamp_tokens()]
N_TOKENS = len(TOKENS) + 3
"""Some models have logits that stand for no token."""
NEVER, NEVER_FIRST = [3, 5], [0, 1, N_TEXT]
"""The last one ends the text, as in the settings of real models."""
N_GIVEN = 3


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    words = WordLevel({token: i for i, token in enumerate(TOKENS)}, unk_token="w0")
    return Vocabulary(Tokenizer(words), multilingual=True)


@pytest.fixture(scope="module")
def ours(vocabulary: Vocabulary) -> NextToken:
    return rules(vocabulary, timestamps=True)


def rules(vocabulary: Vocabulary, *, timestamps: bool) -> NextToken:
    return NextToken(
        vocabulary,
        n_tokens=N_TOKENS,
        never=NEVER,
        never_first=NEVER_FIRST,
        timestamps=timestamps,
        device="cpu",
    )


@pytest.fixture(scope="module")
def library(vocabulary: Vocabulary) -> LogitsProcessorList:
    timestamps = GenerationConfig(
        no_timestamps_token_id=vocabulary.no_timestamps,
        eos_token_id=vocabulary.end,
        bos_token_id=vocabulary.end,
        max_initial_timestamp_index=50,
    )
    return LogitsProcessorList(
        [
            SuppressTokensAtBeginLogitsProcessor(NEVER_FIRST, N_GIVEN),
            SuppressTokensLogitsProcessor([*NEVER, *vocabulary.never_answered]),
            WhisperTimeStampLogitsProcessor(timestamps, begin_index=N_GIVEN),
        ]
    )


@given(seed=st.integers(0, 2**32 - 1), fondness=st.floats(-12.0, 8.0))
def test_whole_answers_are_allowed_what_the_library_allows_token_by_token(
    vocabulary: Vocabulary,
    ours: NextToken,
    library: LogitsProcessorList,
    seed: int,
    fondness: float,
) -> None:
    """Answers are drawn by the library's rules, so that they are such as decoding meets."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([[vocabulary.start, vocabulary.start + 1, vocabulary.start + 3]] * 5)
    allow = ours.after(N_GIVEN)
    for _ in range(8):
        logits = 3 * torch.randn(len(tokens), N_TOKENS, generator=generator)
        logits[:, vocabulary.first_timestamp :] += fondness
        expected = library(tokens, logits.clone())

        assert allow(tokens, logits).equal(expected)

        drawn = torch.multinomial(expected.softmax(-1), 1, generator=generator)
        tokens = torch.cat((tokens, drawn), dim=1)


def test_answers_without_timestamps_may_be_empty_and_have_all_tokens_that_are_not_suppressed(
    vocabulary: Vocabulary,
) -> None:
    allow = rules(vocabulary, timestamps=False).after(N_GIVEN)
    given = torch.tensor([[vocabulary.start] * N_GIVEN])
    never = {*NEVER, *vocabulary.never_answered, *range(vocabulary.no_timestamps, N_TOKENS)}

    first = allow(given, torch.zeros(1, N_TOKENS))
    later = allow(torch.cat((given, torch.tensor([[7]])), dim=1), torch.zeros(1, N_TOKENS))

    assert set(torch.nonzero(first[0].isinf()).flatten().tolist()) == never | {0, 1}
    assert set(torch.nonzero(later[0].isinf()).flatten().tolist()) == never


def test_logits_of_the_caller_are_left_alone(ours: NextToken, vocabulary: Vocabulary) -> None:
    logits = torch.zeros(1, N_TOKENS)

    ours.after(N_GIVEN)(torch.tensor([[vocabulary.start] * 4]), logits)

    assert logits.equal(torch.zeros(1, N_TOKENS))


@pytest.mark.parametrize(
    ("n_items", "n_answers", "at_once", "sizes"),
    [(7, 5, None, [7]), (7, 1, 7, [7]), (7, 5, 16, [3, 3, 1]), (2, 5, 3, [1, 1]), (0, 5, 3, [])],
)
def test_items_decode_in_runs_of_no_more_answers_than_fit(
    n_items: int, n_answers: int, at_once: int | None, sizes: list[int]
) -> None:
    runs = runs_of(n_items, n_answers, at_once)

    assert [len(range(n_items)[run]) for run in runs] == sizes
    assert np.concatenate([[], *(np.arange(n_items)[run] for run in runs)]).tolist() == [
        *range(n_items)
    ]
