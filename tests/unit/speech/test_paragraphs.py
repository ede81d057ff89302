import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speech.text.scripts import columns
from shared.speech.transcript.paragraphs import (
    LONG_COLUMNS,
    LONG_PAUSE_S,
    MAX_COLUMNS,
    PAUSE_S,
    VERY_LONG_COLUMNS,
    make_paragraphs,
)
from shared.speech.transcript.transcript import Segment

SENTENCE = "This one has forty-nine letters, spaces and marks."


def segments_of(
    *texts: str, pause_s: float = 0.3, channels: list[int] | None = None
) -> list[Segment]:
    return [
        Segment(
            id=at,
            start=at * (2 + pause_s),
            end=at * (2 + pause_s) + 2,
            text=text,
            channel=channels[at] if channels else None,
            words=[],
        )
        for at, text in enumerate(texts)
    ]


def test_a_long_pause_ends_a_paragraph() -> None:
    segments = segments_of("One.", "Two.", "Three.")
    segments[2].start += LONG_PAUSE_S
    segments[2].end += LONG_PAUSE_S

    first, second = make_paragraphs(segments)

    assert (first.text, first.start, first.end) == ("One. Two.", 0, segments[1].end)
    assert (second.text, second.first_segment, second.last_segment) == ("Three.", 2, 2)


def test_paragraphs_change_with_the_channel() -> None:
    segments = segments_of("Hello?", "Yes.", "Who", "is it?", channels=[0, 1, 1, 0])

    found = list(make_paragraphs(segments))

    assert [(each.channel, each.text) for each in found] == [
        (0, "Hello?"),
        (1, "Yes. Who"),
        (0, "is it?"),
    ]


@pytest.mark.parametrize(
    ("pause_s", "least", "most"),
    [(PAUSE_S, LONG_COLUMNS, VERY_LONG_COLUMNS), (0.3, VERY_LONG_COLUMNS, MAX_COLUMNS)],
)
def test_long_speech_is_broken_after_a_sentence_sooner_at_a_pause(
    pause_s: float, least: int, most: int
) -> None:
    segments = segments_of(*[SENTENCE] * 60, pause_s=pause_s)

    found = list(make_paragraphs(segments))

    assert all(least <= len(each.text) <= most for each in found[:-1])
    assert len(found) > 2


def test_a_paragraph_ends_with_a_sentence_where_one_does() -> None:
    clause = "and this is the first half of a long one,"
    segments = segments_of(*[clause, SENTENCE] * 40)

    assert all(each.text.endswith(SENTENCE) for each in make_paragraphs(segments))


def test_text_without_any_sentence_is_broken_before_it_is_too_long() -> None:
    segments = segments_of(*["and so on without any marks or pauses"] * 100, pause_s=0)

    found = list(make_paragraphs(segments))

    assert all(len(each.text) <= MAX_COLUMNS * 1.1 for each in found)
    assert len(found) == 3


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", SENTENCE, SENTENCE * 8, "行。" * 60]),
            st.sampled_from([0, 1]),
            st.sampled_from([-1.0, 0.0, 1.0, 3.0]),
            st.sampled_from([" ", ""]),
        ),
        max_size=60,
    )
)
def test_every_segment_is_in_one_paragraph_of_its_channel(
    drawn: list[tuple[str, int, float, str]],
) -> None:
    segments, now = [], 0.0
    for at, (text, channel, pause_s, separator) in enumerate(drawn):
        start = max(now + pause_s, 0.0)
        now = start + 2
        segments.append(
            Segment(
                id=at,
                start=start,
                end=now,
                text=text,
                separator=separator,
                channel=channel,
                words=[],
            )
        )

    found = list(make_paragraphs(segments))

    ids = [at for each in found for at in range(each.first_segment, each.last_segment + 1)]
    assert ids == [segment.id for segment in segments]
    for each in found:
        inside = segments[each.first_segment : each.last_segment + 1]
        assert {segment.channel for segment in inside} == {each.channel}
        assert (each.start, each.end) == (inside[0].start, max(s.end for s in inside))
        joined = inside[0].text + "".join(s.separator + s.text for s in inside[1:])
        assert each.text == joined
        assert len(inside) == 1 or sum(columns(s.text) for s in inside) <= MAX_COLUMNS


def test_memory_does_not_grow_with_the_number_of_segments() -> None:
    def many() -> Iterator[Segment]:
        for at in range(10_000):
            yield Segment(id=at, start=at, end=at + 1, text=SENTENCE, words=[])

    tracemalloc.start()
    try:
        n_paragraphs = sum(1 for _ in make_paragraphs(many()))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert n_paragraphs > 300
    assert peak_bytes < 300_000
