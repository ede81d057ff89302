"""The text while chunks come, and what a decoder measured, on their way into a transcript."""

from hypothesis import given
from hypothesis import strategies as st

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.hypothesis import Decoding, Heard, Hypothesis, WordHypothesis
from shared.speech.transcript.stitching import RunningText, Stitcher
from shared.speech.transcript.transcript import join_segments

CHUNK_S, STRIDE_S = 10, 2


def chunk(idx: int) -> Chunk:
    return Chunk(
        index=idx,
        core_start=idx * CHUNK_S * SAMPLE_RATE,
        core_end=(idx + 1) * CHUNK_S * SAMPLE_RATE,
        stride_left=STRIDE_S * SAMPLE_RATE if idx else 0,
        stride_right=STRIDE_S * SAMPLE_RATE,
    )


def heard(idx: int, words: list[tuple[str, float]], shift_s: float) -> Heard:
    """What a chunk's model hears of words at their times, each a little off."""
    part, found = chunk(idx), []
    for text, at_s in words:
        start = round((at_s + shift_s) * SAMPLE_RATE) - part.start
        if 0 <= start < part.n_samples - 1:
            end = min(start + SAMPLE_RATE // 5, part.n_samples)
            found.append(WordHypothesis(text, start, end))
    return part, Hypothesis(tuple(found), "en")


@given(
    times=st.lists(st.integers(0, 399), unique=True, max_size=60).map(sorted),
    shifts=st.lists(st.sampled_from([-0.15, 0.0, 0.15]), min_size=4, max_size=4),
    script=st.sampled_from([" word{}", "word{}", " 字{}"]),
)
def test_the_text_while_chunks_come_is_the_text_of_the_transcript(
    times: list[int], shifts: list[float], script: str
) -> None:
    words = [(script.format(number), time / 10) for number, time in enumerate(times)]
    chunks = [heard(idx, words, shift) for idx, shift in enumerate(shifts)]

    running = RunningText()
    pushed = [running.push(each) for each in chunks]
    told = [*(pair for pairs in pushed for pair in pairs), *running.end()]

    segments = Stitcher(40 * SAMPLE_RATE).stitch([chunks])
    assert "".join(gap + word.text.strip() for word, gap in told) == "".join(
        join_segments(segments)
    )
    assert pushed[0] == []


def test_a_segment_has_its_words_tokens_and_the_measures_of_its_first_words_window() -> None:
    def spoken(idx: int, *texts: str) -> Heard:
        words = tuple(
            WordHypothesis(text, start, start + 8_000, 0.9, (100 * idx + i, 7))
            for i, (text, start) in enumerate(
                zip(texts, range(40_000, 200_000, 9_000), strict=False)
            )
        )
        return chunk(idx), Hypothesis(words, "en", decoding=Decoding(0.2 * idx, -0.1, 1.5, 0.01))

    chunks = [spoken(0, " One", " two."), spoken(1, " Three.")]
    first, second = Stitcher(20 * SAMPLE_RATE).stitch([chunks])

    assert first.decoding is not None
    assert first.decoding.tokens == [0, 7, 1, 7]
    assert (first.decoding.window_start, first.decoding.temperature) == (0.0, 0.0)
    assert second.decoding is not None
    assert second.decoding.tokens == [100, 7]
    assert (second.decoding.window_start, second.decoding.temperature) == (8.0, 0.2)


def test_a_segment_of_an_engine_that_measures_nothing_has_no_decoding() -> None:
    (segment,) = Stitcher(10 * SAMPLE_RATE).stitch([[heard(0, [(" a", 1.0)], 0)]])
    assert segment.decoding is None
