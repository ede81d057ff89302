"""Which words share a cue, and from when to when it is shown."""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bench.subtitles import count, read_aloud
from harness.jobs.cues import cues_of, fits, speak, text_of
from harness.jobs.word_streams import transcript_of, transcripts
from shared.speech.files.cue_times import GAP_MS, LINGER_MS, MAX_CUE_MS, MIN_CUE_MS
from shared.speech.files.cues import LONG_PAUSE_MS, make_cues
from shared.speech.transcript.transcript import Header, Segment, Transcript, Word

ROOT = Path(__file__).resolve().parents[3]


@st.composite
def talks(draw: st.DrawFn, *, most_words: int = 80) -> list[list[Word]]:
    """Words of letters, each of some length in time, some with a mark at their end, in segments."""
    now = 0.0
    segments: list[list[Word]] = [[]]
    for _ in range(draw(st.integers(1, most_words))):
        letters = draw(st.integers(1, 12))
        start = round(now + draw(st.sampled_from([0, 0, 0, 0.1, 0.4, 1.0, 1.6])), 3)
        now = round(start + draw(st.sampled_from([0.01, 0.1, 0.2, 0.4, 3.0])), 3)
        text = "abcdefghijkl"[:letters] + draw(st.sampled_from(["", "", "", ",", ".", "?"]))
        if segments[-1] and draw(st.booleans()):
            segments.append([])
        segments[-1].append(Word(text=text, start=start, end=now))
    return segments


@given(transcripts(), st.integers(10, 200), st.integers(1, 4))
def test_cues_fit_the_screen(transcript: Transcript, line_columns: int, max_lines: int) -> None:
    cues = make_cues(
        transcript, transcript.segments, line_columns=line_columns, max_lines=max_lines
    )

    for cue in cues:
        assert 1 <= len(cue.lines) <= max_lines
        assert all(1 <= len(line) <= line_columns for line in cue.lines)


@given(talks(), st.integers(1, 12))
def test_cues_have_no_more_words_than_asked_for(segments: list[list[Word]], most: int) -> None:
    transcript = transcript_of(*segments)
    cues = list(make_cues(transcript, transcript.segments, max_words=most))

    assert all(len(text_of(cue).split()) <= most for cue in cues)
    shown = " ".join(map(text_of, cues)).split()
    assert shown == [word.text for words in segments for word in words]


def test_a_word_longer_than_a_cue_counts_once_in_each_of_its_cues() -> None:
    long = Word(text="x" * 100, start=0, end=3)
    transcript = transcript_of([long, Word(text="end", start=3, end=4)])

    cues = list(make_cues(transcript, transcript.segments, line_columns=20, max_words=1))

    assert text_of(cues[-1]) == "end"
    assert "".join("".join(cue.lines) for cue in cues[:-1]) == long.text


@given(transcripts())
def test_cues_keep_every_word_in_order(transcript: Transcript) -> None:
    shown = "".join("".join(cue.lines) for cue in cues_of(transcript)).replace(" ", "")

    words = [word.text for segment in transcript.segments for word in segment.words]
    assert shown == "".join(words)


@given(transcripts())
def test_cues_never_overlap_and_last_a_sensible_time(transcript: Transcript) -> None:
    cues = cues_of(transcript)

    for cue, following in pairwise(cues):
        assert cue.start_ms < following.start_ms
        assert cue.end_ms <= following.start_ms
        assert cue.end_ms - cue.start_ms >= MIN_CUE_MS or cue.end_ms == following.start_ms
    assert all(1 <= cue.end_ms - cue.start_ms <= MAX_CUE_MS for cue in cues)


@given(talks())
def test_every_word_begins_while_its_cue_is_shown(segments: list[list[Word]]) -> None:
    words = iter([word for segment in segments for word in segment])

    for cue in cues_of(transcript_of(*segments)):
        for shown in text_of(cue).split():
            word = next(words)
            assert shown == word.text
            assert cue.start_ms <= round(word.start * 1000) <= cue.end_ms
    assert next(words, None) is None


@given(talks(most_words=40))
def test_cue_is_too_short_only_if_it_cannot_be_merged(segments: list[list[Word]]) -> None:
    cues = cues_of(transcript_of(*segments))
    words = iter([word for segment in segments for word in segment])
    spoken = [[next(words) for _ in text_of(cue).split()] for cue in cues]

    for (cue, first), (following, second) in pairwise(zip(cues, spoken, strict=True)):
        if min(cue.end_ms - cue.start_ms, following.end_ms - following.start_ms) < MIN_CUE_MS:
            assert (
                not fits(f"{text_of(cue)} {text_of(following)}")
                or second[-1].end - first[0].start > MAX_CUE_MS / 1000
                or second[0].start - first[-1].end >= LONG_PAUSE_MS / 1000
            )


def test_cues_go_on_across_segments() -> None:
    first = speak("We went to see", word_s=0.3)
    rest = speak("the old town.", start=1.2)

    (cue,) = cues_of(transcript_of(first, rest))

    assert cue.lines == ("We went to see the old town.",)


def test_no_cue_ends_with_an_abbreviation() -> None:
    """Segments end at full stops of any kind."""
    words = speak("In the morning Dr. Müller met Mr. Smith of the town council, and they had tea.")
    segments = [words[:4], words[4:7], words[7:]]

    cues = cues_of(transcript_of(*segments))

    assert [text_of(cue) for cue in cues] == [" ".join(word.text for word in words)]
    assert all(not line.endswith(("Dr.", "Mr.")) for cue in cues for line in cue.lines)


def test_sentences_begin_cues_where_they_do_not_fit_into_one() -> None:
    first = "The house on the hill had been empty for years."
    second = "Nobody in the village wanted to live in it any more."

    cues = cues_of(transcript_of(speak(f"{first} {second}")))

    assert [text_of(cue) for cue in cues] == [first, second]


def test_short_sentences_share_a_cue() -> None:
    words = speak("Yes. No. Perhaps. Who knows?", word_s=0.3, pauses={"Yes.": 0.2, "No.": 0.2})

    (cue,) = cues_of(transcript_of(words[:1], words[1:2], words[2:3], words[3:]))

    assert cue.end_ms - cue.start_ms >= MIN_CUE_MS


def test_no_cue_spans_a_long_pause() -> None:
    words = speak("Wait. Now.", pauses={"Wait.": LONG_PAUSE_MS / 1000})

    first, second = cues_of(transcript_of(words))

    assert (first.start_ms, first.end_ms) == (0, MIN_CUE_MS)
    assert second.start_ms == 1_800


def test_languages_do_not_share_a_cue() -> None:
    transcript = transcript_of(speak("Good morning."), speak("Guten Tag.", start=0.6))
    transcript.segments[1].language = "de"

    assert [text_of(cue) for cue in cues_of(transcript)] == ["Good morning.", "Guten Tag."]


def test_cue_lingers_to_be_read_but_not_for_long() -> None:
    (cue,) = cues_of(transcript_of(speak("Extraordinarily incomprehensible notes", word_s=0.5)))
    (fast,) = cues_of(transcript_of(speak("Extraordinarily incomprehensible notes", word_s=0.3)))

    assert cue.end_ms == 38 * 1000 // 20
    assert fast.end_ms == 900 + LINGER_MS


def test_cues_that_follow_each_other_leave_two_frames() -> None:
    sentences = (
        "The old house had been empty for years. Nobody in the village wanted to live there."
    )
    words = speak(sentences, pauses={"years.": 0.4})

    first, second = cues_of(transcript_of(words))

    assert second.start_ms - first.end_ms == GAP_MS


def test_read_aloud_text_has_hardly_a_cue_of_one_word() -> None:
    """As a book: prose with long and short sentences, abbreviations, pauses."""
    files = [ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
    prose = "\n\n".join(file.read_text(encoding="utf-8") for file in files)
    paragraphs = [p for p in prose.split("\n\n") if p[:1].isalpha() and "|" not in p]

    figures = count(make_cues(Header(language="en"), [*read_aloud("\n\n".join(paragraphs), "en")]))

    assert figures.n_cues > 100
    assert figures.n_one_word <= 0.01 * figures.n_cues
    assert figures.n_short == figures.n_long == 0
    assert figures.n_stubs <= 0.02 * figures.n_cues


class CountedSegments(Sequence[Segment]):
    """Segments that exist only while they are looked at, and are counted."""

    n_read = 0

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, at: int) -> Segment:  # type: ignore[override]
        words = speak("and so they went on and on", start=at * 2.1)
        return Segment(id=at, start=words[0].start, end=words[-1].end, text="", words=words)

    def __iter__(self) -> Iterator[Segment]:
        for at in range(len(self)):
            self.n_read = at + 1
            yield self[at]


def test_words_are_read_a_few_cues_ahead() -> None:
    """Even where no pause and no sentence ever ends."""
    segments = CountedSegments()
    cues = make_cues(Header(language="en"), segments)

    for n_cues in range(1, 500):
        cue = next(cues)
        n_ahead = segments.n_read - cue.end_ms / 2_100
        assert n_ahead < 40, f"after {n_cues} cues"


def test_what_is_broken_up_in_parts_has_no_seams() -> None:
    """A passage of many windows has no worse cues than each of its sentences alone."""
    rng = random.Random(1)
    sentences = [
        " ".join("abcdefghij"[: rng.randint(2, 9)] for _ in range(rng.randint(4, 14))).capitalize()
        for _ in range(300)
    ]
    words = speak(". ".join(sentences) + ".", pauses={})

    figures = count(cues_of(transcript_of(words)))

    assert figures.n_one_word == figures.n_short == figures.n_stubs == 0
