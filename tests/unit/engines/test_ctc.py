"""Reading words out of emissions written by hand."""

import numpy as np
import pytest

from worker.engines.ctc.best_path import LogProbs, best_path
from worker.engines.emissions import LONGEST_GAP_S, join_words, may_hold_words

SYMBOLS = ["", " ", "a", "b", "c"]
BLANK = 0
STRIDE = 320


def emissions(path: str, *, sure: float = 0.9) -> LogProbs:
    """Return log-probabilities whose best symbols are those of the path; '_' is the blank."""
    best = ["_", " ", "a", "b", "c"]
    probs = np.full((len(path), len(best)), (1 - sure) / (len(best) - 1))
    probs[np.arange(len(path)), [best.index(symbol) for symbol in path]] = sure
    return np.log(probs).astype(np.float32)


def words(path: str, n_samples: int = 1_000_000) -> list[tuple[str, int, int]]:
    """Return text, first and last frame + 1 of the words of a path."""
    heard = best_path(emissions(path), SYMBOLS, BLANK)
    return [
        (word.text, word.start // STRIDE, word.end // STRIDE)
        for word in join_words(heard, STRIDE, n_samples)
    ]


def test_runs_are_one_symbol_and_a_blank_keeps_equals_apart() -> None:
    assert words("aabb") == [("ab", 0, 4)]
    assert words("a_a") == [("aa", 0, 3)]
    assert words("aaa") == [("a", 0, 3)]


def test_word_lasts_from_its_first_symbol_to_its_last() -> None:
    assert words("__ab__ __c__") == [("ab", 2, 4), (" c", 9, 10)]


@pytest.mark.parametrize("path", ["", "____", "  _ ", "_ _"])
def test_blanks_and_spaces_alone_are_no_words(path: str) -> None:
    assert words(path) == []


def test_spaces_at_the_edges_and_in_rows_make_no_empty_words() -> None:
    assert words(" a  _ b ") == [(" a", 1, 2), (" b", 6, 7)]


def test_symbol_that_says_nothing_is_left_out_and_splits_no_word() -> None:
    heard = best_path(emissions("abc"), ["", " ", "a", "", "c"], BLANK)

    assert [word.text for word in join_words(heard, STRIDE, 960)] == ["ac"]


GAP = "_" * (round(LONGEST_GAP_S * 16_000 / STRIDE) + 1)


def test_symbol_of_a_word_that_the_items_end_cuts_off_is_not_of_the_word_before() -> None:
    path = f"ab{GAP}c_"

    assert words(path, len(path) * STRIDE) == [("ab", 0, 2), ("c", len(path) - 2, len(path) - 1)]


@pytest.mark.parametrize("path", [f"ab{GAP[2:]}c_", f"ab{GAP}c {'_' * 20}", f"a{GAP}bc {'_' * 20}"])
def test_word_may_be_spoken_slowly(path: str) -> None:
    assert [text for text, _, _ in words(path, len(path) * STRIDE)] == ["abc"]


def test_blank_may_be_any_symbol() -> None:
    heard = best_path(emissions("aabca"), ["x", " ", "a", "b", "c"], blank=2)

    assert [emission.text for emission in heard] == ["b", "c"]


def test_word_pieces_begin_words_where_they_carry_a_space() -> None:
    pieces = ["", " good", " bye", "bye"]
    path = np.log(np.eye(4, dtype=np.float32)[[1, 3, 0, 2]] * 0.9 + 0.025)

    heard = list(join_words(best_path(path, pieces, BLANK), 1280, 10_000))

    assert [(word.text, word.start, word.end) for word in heard] == [
        (" goodbye", 0, 2560),
        (" bye", 3840, 5120),
    ]


def test_symbols_of_scripts_without_spaces_are_words_and_latin_letters_among_them_join() -> None:
    symbols = ["", " ", *"我写行用，", " Chat", "G", "PT", "2", "5", "の", "ー", "ที่"]  # noqa: RUF001
    said = ["我", "用", " Chat", "G", "PT", "写", "2", "5", "行", "，", "の", "ー", "ที่", " ", "我"]  # noqa: RUF001
    path = [index for symbol in said for index in (symbols.index(symbol), BLANK)]
    log_probs = np.log(np.eye(len(symbols), dtype=np.float32)[path] * 0.9 + 0.01)

    heard = join_words(best_path(log_probs, symbols, BLANK), STRIDE, 1_000_000)

    assert [word.text for word in heard] == (
        ["我", "用", " ChatGPT", "写", "25", "行，", "のー", "ที่", " 我"]  # noqa: RUF001
    )


def test_no_word_ends_past_its_item() -> None:
    (word,) = join_words(best_path(emissions("__a"), SYMBOLS, BLANK), STRIDE, 900)

    assert (word.start, word.end) == (640, 900)


def test_confidence_is_the_geometric_mean_of_the_peaks_and_ignores_spaces() -> None:
    path = np.concatenate(
        [emissions(symbol, sure=sure) for symbol, sure in [("a", 0.5), ("a", 0.8), ("b", 0.45)]]
        + [emissions(" ", sure=0.3)]
    )

    (word,) = join_words(best_path(path, SYMBOLS, BLANK), STRIDE, 1280)

    assert word.confidence == pytest.approx((0.8 * 0.45) ** 0.5)


def test_long_words_are_not_doubted_for_their_length() -> None:
    heard = best_path(emissions("abcabcabc a", sure=0.7), SYMBOLS, BLANK)

    long, short = join_words(heard, STRIDE, 1_000_000)

    assert long.confidence == pytest.approx(short.confidence)


@pytest.mark.parametrize("shift_samples", [0, 1, 160, 319, 320, 5_000])
def test_same_audio_cut_elsewhere_gives_the_same_times_to_within_a_frame(
    shift_samples: int,
) -> None:
    # What a network says does not depend on where its frames begin, only when: sample the same
    # speech ('a' from 32,000 to 33,000, 'b' to 35,000) at both chunks' frames.
    def heard_from(chunk_start: int) -> tuple[int, int]:
        frames = [chunk_start + i * STRIDE + STRIDE // 2 for i in range(200)]
        path = "".join(
            "a" if 32_000 <= at < 33_000 else "b" if 33_000 <= at < 35_000 else "_" for at in frames
        )
        (word,) = join_words(best_path(emissions(path), SYMBOLS, BLANK), STRIDE, 200 * STRIDE)
        return chunk_start + word.start, chunk_start + word.end

    first, second = heard_from(0), heard_from(16_000 + shift_samples)

    assert abs(first[0] - second[0]) <= STRIDE
    assert abs(first[1] - second[1]) <= STRIDE


@pytest.mark.parametrize(
    ("n_samples", "level", "may"),
    [(0, 0.5, False), (1_599, 0.5, False), (1_600, 0.5, True), (16_000, 5e-5, False)],
)
def test_short_or_silent_items_are_not_asked_about(n_samples: int, level: float, may: bool) -> None:
    assert may_hold_words(np.full(n_samples, level, dtype=np.float32)) is may
