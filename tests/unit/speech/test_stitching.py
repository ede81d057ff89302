import json
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.spans import Span
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.hypothesis import Heard, Hypothesis, WordHypothesis
from shared.speech.transcript.paragraphs import make_paragraphs
from shared.speech.transcript.stitching import Stitcher, make_header, survey
from shared.speech.transcript.transcript import Transcript, join_segments

S = SAMPLE_RATE


def stitch(
    *channels: Sequence[Heard],
    n_samples: int,
    language: str | None,
    multilingual: bool = False,
    clipped_share: float | None = None,
) -> Transcript:
    """The whole at once: header, text and segments."""
    found = survey(pair for channel in channels for pair in channel)
    written = None if multilingual else language or found.language
    stitcher = Stitcher(n_samples, language=written)
    segments = list(stitcher.stitch(channels))
    header = make_header(
        found,
        n_samples=n_samples,
        channels=len(channels) if len(channels) > 1 else None,
        language=language,
        language_probability=None,
        mean_confidence=stitcher.mean_confidence,
        clipped_share=clipped_share,
    )
    text = "".join(join_segments(segments))
    paragraphs = list(make_paragraphs(segments))
    return Transcript(**dict(header), text=text, paragraphs=paragraphs, segments=segments)


def hypothesis(
    *words: tuple[str, float, float],
    language: str | None = None,
    probability: float | None = None,
    confidence: float | None = None,
    loop_suspected: bool = False,
) -> Hypothesis:
    """Words as (text, start, end) in seconds into the chunk."""
    return Hypothesis(
        tuple(WordHypothesis(text, round(a * S), round(b * S), confidence) for text, a, b in words),
        language,
        probability,
        loop_suspected,
    )


def whole(seconds: float) -> Chunk:
    return Chunk(0, 0, round(seconds * S), 0, 0)


def test_word_heard_by_two_neighbours_is_kept_once_at_its_true_time() -> None:
    left = Chunk(0, 0, 10 * S, 0, S)
    right = Chunk(1, 10 * S, 20 * S, S, 0)

    transcript = stitch(
        [
            (left, hypothesis(("one", 1, 2), ("two", 9.6, 10.2), ("three", 10.5, 11))),
            (right, hypothesis(("two", 0.6, 1.2), ("three", 1.5, 2), ("four", 9, 10))),
        ],
        n_samples=20 * S,
        language="en",
    )

    words = [(w.text, w.start, w.end) for s in transcript.segments for w in s.words]
    assert words == [
        ("one", 1, 2),
        ("two", 9.6, 10.2),
        ("three", 10.5, 11),
        ("four", 18, 19),
    ]
    assert transcript.text == "one two three four"


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=60), st.data())
def test_no_word_is_lost_or_doubled_wherever_the_cuts_fall(
    lengths: list[int], data: st.DataObject
) -> None:
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    n = sum(lengths)
    spoken = [
        (f"w{i}", a, a + size) for i, (a, size) in enumerate(zip(starts, lengths, strict=True))
    ]
    cuts = sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=6))})
    pairs = []
    for index, (start, end) in enumerate(pairwise(cuts)):
        # Overlap enough that every word whose midpoint lies in the core is heard as a whole.
        chunk = Chunk(index, start, end, min(2000, start), min(2000, n - end))
        heard = tuple(
            WordHypothesis(text, a - chunk.start, b - chunk.start)
            for text, a, b in spoken
            if a >= chunk.start and b <= chunk.end
        )
        pairs.append((chunk, Hypothesis(heard)))

    transcript = stitch(pairs, n_samples=n, language=None)

    words = [w for s in transcript.segments for w in s.words]
    assert [w.text for w in words] == [text for text, _, _ in spoken]
    assert [w.start for w in words] == [round(a / S, 3) for _, a, _ in spoken]
    assert transcript.skipped_s == 0


def test_word_at_the_very_end_of_the_audio_is_kept() -> None:
    transcript = stitch([(whole(1), hypothesis(("end", 1, 1)))], n_samples=S, language="en")

    assert transcript.text == "end"


def test_times_never_step_back_nor_pass_the_end() -> None:
    heard = hypothesis(("a", 0.2, 0.9), ("b", 0.8, 0.85), ("c", 0.9, 1.4))

    transcript = stitch([(whole(1.3), heard)], n_samples=round(1.3 * S), language="en")

    words = [w for s in transcript.segments for w in s.words]
    assert [(w.start, w.end) for w in words] == [(0.2, 0.9), (0.9, 0.9), (0.9, 1.3)]


@pytest.mark.parametrize(("given_language", "expected"), [(None, "de"), ("fr", "fr")])
def test_language_is_the_given_one_or_that_of_most_audio(
    given_language: str | None, expected: str
) -> None:
    pairs = [
        (Chunk(0, 0, S, 0, 0), hypothesis(language="en")),
        (Chunk(1, S, 2 * S, 0, 0), hypothesis(language="en")),
        (Chunk(2, 2 * S, 5 * S, 0, 0), hypothesis(language="de")),
        (Chunk(3, 5 * S, 9 * S, 0, 0), hypothesis()),
    ]

    assert stitch(pairs, n_samples=9 * S, language=given_language).language == expected


def test_audio_outside_the_chunks_is_reported_as_skipped() -> None:
    pairs = [
        (Chunk(0, S, 3 * S, S // 2, 0), hypothesis()),
        (Chunk(1, 6 * S, 7 * S, 0, 0), hypothesis()),
    ]

    transcript = stitch(pairs, n_samples=10 * S, language="en")

    assert (transcript.duration_s, transcript.speech_s, transcript.skipped_s) == (10, 3, 7)


def test_pauses_that_were_left_out_are_reported_as_skipped() -> None:
    parts = (Span(0, 2 * S), Span(4 * S, 6 * S), Span(7 * S, 8 * S))
    pairs = [(Chunk(0, S, 8 * S, S, S, parts=parts), hypothesis())]

    transcript = stitch(pairs, n_samples=10 * S, language="en")

    assert (transcript.speech_s, transcript.skipped_s) == (1 + 2 + 1, 6)


def test_silent_audio_gives_an_empty_transcript() -> None:
    transcript = stitch([], n_samples=S, language=None)

    assert (transcript.text, transcript.segments, transcript.skipped_s) == ("", [], 1)


def test_channels_are_stitched_apart_and_merged_by_time() -> None:
    agent = [(Chunk(0, 0, 10 * S, 0, 0, channel=0), hypothesis(("hello", 0, 1), ("bye", 8, 9)))]
    client = [(Chunk(1, S, 9 * S, S, 0, channel=1), hypothesis(("hi", 0.5, 2), ("yes", 5, 6)))]

    transcript = stitch(agent, client, n_samples=12 * S, language="en")

    assert [(s.id, s.channel, s.text, s.start) for s in transcript.segments] == [
        (0, 0, "hello", 0),
        (1, 1, "hi", 0.5),  # while the other still speaks: each channel has its own time
        (2, 1, "yes", 5),
        (3, 0, "bye", 8),
    ]
    assert transcript.text == "hello hi yes bye"
    assert (transcript.channels, transcript.speech_s, transcript.skipped_s) == (2, 10, 2)


def test_a_segments_confidence_is_the_mean_of_its_words_or_unknown() -> None:
    certain = hypothesis(("one", 0, 1), confidence=0.9)
    doubtful = hypothesis(("two", 1, 2), confidence=0.5)
    unknown = hypothesis(("three", 2, 3))
    chunks = [Chunk(0, 0, S, 0, 0), Chunk(1, S, 2 * S, S, 0), Chunk(2, 2 * S, 3 * S, 2 * S, 0)]

    known = stitch(
        list(zip(chunks[:2], [certain, doubtful], strict=True)), n_samples=3 * S, language="en"
    )
    partly = stitch(
        list(zip(chunks, [certain, doubtful, unknown], strict=True)), n_samples=3 * S, language="en"
    )

    assert [s.confidence for s in known.segments] == [0.7]
    assert [s.confidence for s in partly.segments] == [None]


def test_confidences_are_written_with_three_digits() -> None:
    heard = [
        hypothesis(
            ("o", 0, 0.5), ("ne", 0.5, 1), confidence=0.124456, probability=2 / 3, language="en"
        ),
        hypothesis(("two", 0, 1), confidence=0.99951, probability=0.61234567, language="en"),
    ]
    chunks = [Chunk(0, 0, S, 0, 0), Chunk(1, S, 2 * S, 0, 0)]

    written = json.loads(
        stitch(
            list(zip(chunks, heard, strict=True)), n_samples=2 * S, language=None
        ).model_dump_json()
    )

    (segment,) = written["segments"]
    assert [word["confidence"] for word in segment["words"]] == [0.124, 0.124, 1.0]
    assert segment["confidence"] == 0.416
    assert written["language_probability"] == 0.64


def test_a_multilingual_transcript_is_cut_where_the_language_changes() -> None:
    pairs = [
        (Chunk(0, 0, S, 0, 0), hypothesis(("good", 0, 0.5), ("day", 0.5, 1), language="en")),
        (Chunk(1, S, 3 * S, 0, 0), hypothesis(("你", 0, 0.5), ("好", 0.5, 1), language="zh")),
    ]

    transcript = stitch(pairs, n_samples=3 * S, language=None, multilingual=True)

    assert [(s.language, s.text) for s in transcript.segments] == [
        ("en", "good day"),
        ("zh", "你好"),
    ]
    assert transcript.language == "zh"


def test_the_probability_of_a_detected_language_is_the_mean_over_its_audio() -> None:
    pairs = [
        (Chunk(0, 0, S, 0, 0), hypothesis(language="de", probability=0.4)),
        (Chunk(1, S, 4 * S, 0, 0), hypothesis(language="de", probability=0.8)),
        (Chunk(2, 4 * S, 5 * S, 0, 0), hypothesis(language="en", probability=1.0)),
    ]

    transcript = stitch(pairs, n_samples=5 * S, language=None)

    assert (transcript.language, transcript.language_probability) == ("de", pytest.approx(0.7))


@pytest.mark.parametrize(("confidence", "warned"), [(0.49, True), (0.51, False), (None, False)])
def test_low_confidence_is_warned_of_where_there_is_confidence(
    confidence: float | None, warned: bool
) -> None:
    heard = hypothesis(("word", 0, 1), confidence=confidence)

    warnings = stitch([(whole(1), heard)], n_samples=S, language="en").warnings

    assert [w.code for w in warnings] == ["low_confidence"] * warned


def test_loops_are_warned_of_with_the_first_places() -> None:
    loops = [
        (Chunk(i, i * 600 * S, (i * 600 + 30) * S, 0, 0), hypothesis(loop_suspected=i != 1))
        for i in range(7)
    ]

    (warning,) = stitch(loops, n_samples=4200 * S, language="en").warnings

    assert warning.code == "loop_suspected"
    assert "0:00:00, 0:20:00, 0:30:00, 3 more" in warning.detail


@pytest.mark.parametrize(("share", "warned"), [(0.02, True), (0.001, False), (None, False)])
def test_clipped_audio_is_warned_of(share: float | None, warned: bool) -> None:
    warnings = stitch([], n_samples=S, language="en", clipped_share=share).warnings

    assert [(w.code, w.detail[:4]) for w in warnings] == [("clipped_audio", "2.0%")] * warned


def test_memory_does_not_grow_with_the_number_of_words() -> None:
    """Twenty thousand words, as of two hours of speech, would take ten megabytes."""
    assert peak_bytes(n_chunks=400) < 1.5 * peak_bytes(n_chunks=40)


def peak_bytes(n_chunks: int) -> int:
    """Return the most memory that the stitching of so many chunks of 50 words takes."""

    def chunks() -> Iterator[Heard]:
        for index in range(n_chunks):
            words = [(f"word{n:02d}", n * 0.4, n * 0.4 + 0.3) for n in range(50)]
            yield Chunk(index, index * 20 * S, (index + 1) * 20 * S, 0, 0), hypothesis(*words)

    stitcher = Stitcher(n_chunks * 20 * S, language="en")
    tracemalloc.start()
    try:
        n_words = sum(len(segment.words) for segment in stitcher.stitch([chunks()]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n_words == 50 * n_chunks
    return peak


@pytest.mark.parametrize(
    ("left", "right", "text"),
    [
        ([" hello"], [" world"], "hello world"),
        (["hello,"], ["world"], "hello, world"),
        (["我", "用"], [" ChatGPT", " 写"], "我用ChatGPT 写"),
        (["안녕"], ["세상"], "안녕 세상"),
        (["สวัสดี", " ครับ"], [" ฉัน"], "สวัสดี ครับฉัน"),
        (["25"], ["行"], "25行"),
        (["好。 "], ["你", "\u3000好"], "好。你\u3000好"),
        ([" 25", " %"], [" of"], "25 % of"),
        ([" wait"], [" ♪", " la"], "wait ♪ la"),  # a mark alone has the space that it was given
        ([" wait", "."], ["..", " la"], "wait... la"),
    ],
)
def test_words_keep_their_own_space_and_a_chunks_first_word_gets_that_of_its_script(
    left: list[str], right: list[str], text: str
) -> None:
    pairs = [
        (chunk, hypothesis(*((said, i * 0.1, i * 0.1 + 0.1) for i, said in enumerate(words))))
        for chunk, words in ((Chunk(0, 0, S, 0, 0), left), (Chunk(1, S, 2 * S, 0, 0), right))
    ]

    transcript = stitch(pairs, n_samples=2 * S, language=None)

    assert transcript.text == text
    words = [word for segment in transcript.segments for word in segment.words]
    assert "".join(word.separator + word.text for word in words) == text
    assert all(word.text == word.text.strip() for word in words)


def test_a_first_word_that_a_chunk_heard_after_others_keeps_its_space() -> None:
    left = (Chunk(0, 0, S, 0, S), hypothesis(("ครับ", 0.1, 0.5)))
    right = (Chunk(1, S, 2 * S, S, 0), hypothesis(("ครับ", 0.1, 0.5), (" ฉัน", 1.2, 1.4)))

    assert stitch([left, right], n_samples=2 * S, language="th").text == "ครับ ฉัน"


def test_other_channels_words_are_a_space_away() -> None:
    one = [(Chunk(0, 0, S, 0, 0, channel=0), hypothesis(("你好", 0, 0.5)))]
    other = [(Chunk(1, 0, S, 0, 0, channel=1), hypothesis(("好", 0.6, 0.9)))]

    assert stitch(one, other, n_samples=S, language="zh").text == "你好 好"


def test_words_have_the_times_of_the_files_clock() -> None:
    slow = Chunk(0, 0, 20 * S, 0, 0, times=((0, 0), (10 * S, 9 * S), (20 * S, 19 * S)))

    transcript = stitch(
        [(slow, hypothesis(("one", 5, 6), ("two", 12, 13)))], n_samples=19 * S, language="en"
    )

    words = [(w.text, w.start, w.end) for s in transcript.segments for w in s.words]
    assert words == [("one", 4.5, 5.4), ("two", 11, 12)]
