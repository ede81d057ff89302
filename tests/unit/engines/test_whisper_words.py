"""Whisper's tokens and times, without a Whisper."""

from itertools import combinations_with_replacement, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from harness.engines.random_whisper import write_random_whisper
from shared.infra.errors import ModelError
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.hypothesis import Hypothesis
from shared.speech.text.scripts import space_between
from shared.speech.transcript.stitching import Stitcher
from shared.speech.transcript.transcript import join_segments
from worker.engines.whisper.fallback import Segment
from worker.engines.whisper.vocabulary import MAX_PREVIOUS_TOKENS, Vocabulary
from worker.engines.whisper.word_times import Alignment, path_starts, time_words


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    folder = tmp_path_factory.mktemp("whisper")
    write_random_whisper(folder, ["en", "ja", "jv"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Vocabulary(tokenizer, multilingual=True)


def spell(vocabulary: Vocabulary, text: str) -> tuple[int, ...]:
    """One token per byte, but for the words that the vocabulary has."""
    return tuple(vocabulary._tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("seed", range(20))
def test_path_is_the_best_of_all_monotone_paths(seed: int) -> None:
    score = np.random.default_rng(seed).normal(size=(3, 5))

    starts = path_starts(score)

    def best_from(starts: tuple[int, ...]) -> float:
        """Of paths that enter the rows at these columns: a row ends where the next begins, or
        one column before."""
        totals = 0.0
        for i, start in enumerate(starts):
            end = starts[i + 1] if i + 1 < len(starts) else score.shape[1] - 1
            row = score[i, start : end + 1]
            last = i + 1 == len(starts)
            totals += row.sum() if last or end == start else max(row.sum(), row[:-1].sum())
        return totals

    columns = combinations_with_replacement(range(5), 2)
    paths = [(0, *rest) for rest in columns]
    assert best_from(tuple(starts.tolist())) == pytest.approx(max(map(best_from, paths)))


def test_words_begin_where_their_attention_lies() -> None:
    score = np.full((4, 40), -1.0)
    for row, start in enumerate((0, 7, 20, 31)):
        score[row, start : start + 6] = 1.0

    starts = path_starts(score)

    assert starts[0] == 0
    assert all(abs(a - b) <= 7 for a, b in zip(starts, (0, 7, 20, 31), strict=True))
    assert all(a <= b for a, b in pairwise(starts))


def test_text_is_split_at_its_timestamps(vocabulary: Vocabulary) -> None:
    at = vocabulary.first_timestamp
    tokens = [at, 5, 6, at + 50, at + 100, 7, at + 150, at + 200, 8]

    assert vocabulary.split_segments(tokens) == (
        Segment(0.0, 1.0, (5, 6)),
        Segment(2.0, 3.0, (7,)),
        Segment(4.0, None, (8,)),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" hello, world.", [" hello,", " world."]),
        (' she said "no" (twice)', [" she", " said", ' "no"', " (twice)"]),
        (" it's twenty-one - or so", [" it's", " twenty-one", " - or", " so"]),
        ("naïve café", ["naïve", " café"]),
        ("東京です。", ["東", "京", "で", "す。"]),
        ("我用ChatGPT写了25行", ["我", "用", "ChatGPT", "写", "了", "25", "行"]),
        ("他说：「你好」，OK。", ["他", "说：", "「你", "好」，", "OK。"]),  # noqa: RUF001
        ("好 的", ["好", " 的"]),
        ("ฉันใช้ iPhone 15", ["ฉั", "น", "ใช้", " iPhone", " 15"]),
    ],
)
def test_tokens_become_words_with_their_punctuation(
    vocabulary: Vocabulary, text: str, words: list[str]
) -> None:
    tokens = spell(vocabulary, text)

    split = vocabulary.split_words(tokens)

    assert [word.text for word in split] == words
    assert sum(word.n_tokens for word in split) == len(tokens)


# fmt: off
PARTS = [
    # Letters of the scripts of the vocabulary's languages, with their marks.
    *"aßñżłøığđșő", *"жїђ", *"αώ", *"עء", *"گي", *"नि", *"কা", *"ਕੈ", *"கூ", *"కా", *"ಕಿ", *"കീ",  # noqa: RUF001
    *"සිං", *"անց", *"ქა", *"አማ", *"한국", *"我學", *"がー々ヴ", *"ไทยที่", *"ລາວ",
    *"မြန်မာ", *"ខ្មែរ", *"བོད་",
    *"0159", *".,!?\"'()[]-–…", *"。、「」（）！？", "😀", "\u200b", "\u200d",  # noqa: RUF001
    " ", "  ", "\u3000", "\t",
]
# fmt: on


@given(st.lists(st.lists(st.sampled_from(PARTS), min_size=1, max_size=12), min_size=1, max_size=4))
def test_words_joined_are_the_decoded_text_in_every_script(
    vocabulary: Vocabulary, texts: list[list[str]]
) -> None:
    """The decoder's tokens are bytes here, and its segments begin as in their script."""
    spoken = ["".join(parts).strip() for parts in texts]
    written = [
        " " * (i > 0 and space_between(a, b) is not False) + b
        for i, (a, b) in enumerate(pairwise(["", *spoken]))
    ]
    segments = [Segment(None, None, spell(vocabulary, text)) for text in written if text]
    decoded = "".join(written).strip()
    n_tokens = sum(len(segment.tokens) for segment in segments)
    alignment = Alignment(np.linspace(0, 1, n_tokens + 1), np.ones(n_tokens))

    words = time_words(segments, alignment, vocabulary, 16_000)

    chunk = Chunk(0, 0, 16_000, 0, 0)
    stitched = list(Stitcher(16_000).stitch([[(chunk, Hypothesis(words))]]))
    assert "".join(join_segments(stitched)) == decoded
    found = [word for segment in stitched for word in segment.words]
    assert "".join(word.separator + word.text for word in found) == decoded


def test_pause_within_the_path_is_no_part_of_a_word(vocabulary: Vocabulary) -> None:
    tokens = spell(vocabulary, "abc")
    segments = [Segment(0.0, 0.6, tokens[:1]), Segment(5.0, 5.8, tokens[1:])]
    alignment = Alignment(np.array([0.0, 3.0, 5.4, 5.8]), np.array([0.9, 0.5, 0.7]))

    first, second = time_words(segments, alignment, vocabulary, 16_000 * 6)

    assert first.end < 1.5 * 16_000
    assert second.start >= 4.0 * 16_000
    assert (first.confidence, second.confidence) == (0.9, pytest.approx(0.6))


def test_words_that_the_path_leaves_in_another_segment_come_back(vocabulary: Vocabulary) -> None:
    tokens = [*spell(vocabulary, " a b"), *spell(vocabulary, " c d")]
    segments = [Segment(0.0, 1.0, tuple(tokens[:4])), Segment(3.0, 4.0, tuple(tokens[4:]))]
    # Of the first segment's words one is put into the second, and one of the second's before it.
    starts = np.array([0.0, 0.1, 0.4, 1.9, 1.9, 2.0, 2.0, 3.6, 4.0])

    words = time_words(segments, Alignment(starts, np.full(8, 0.9)), vocabulary, 16_000 * 6)

    assert [word.text for word in words] == [" a", " b", " c", " d"]
    assert [token for word in words for token in word.tokens] == tokens
    within = [(0.0, 1.5), (0.0, 1.5), (2.5, 4.5), (2.5, 4.5)]
    for word, (earliest_s, latest_s) in zip(words, within, strict=True):
        assert earliest_s * 16_000 <= word.start <= word.end <= latest_s * 16_000


def test_languages_go_by_their_iso_codes(vocabulary: Vocabulary) -> None:
    assert set(vocabulary.languages) == {"en", "ja", "jv"}
    assert vocabulary.start_sequence("jv", "translate")[0] == vocabulary.start
    with pytest.raises(ModelError, match="no language 'de'"):
        vocabulary.start_sequence("de", "transcribe")


def test_prompt_and_hotwords_never_take_more_than_their_room(vocabulary: Vocabulary) -> None:
    long = "x" * 1_000

    for prompt, hotwords in ((long, None), (None, long), (long, long), ("short", long)):
        assert len(vocabulary.previous_text(prompt, hotwords)) == 1 + MAX_PREVIOUS_TOKENS
    assert vocabulary.previous_text(" ", None) == []
    both = vocabulary.previous_text("style", "name")
    assert vocabulary.decode(both[1:]) == " name style"
