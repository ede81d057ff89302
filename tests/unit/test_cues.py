import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wordstreams import transcript_of, transcripts

from bench.subtitles import count, read_aloud
from shared.speech.cue_times import GAP_MS, LINGER_MS, MAX_CUE_MS, MIN_CUE_MS
from shared.speech.cues import CUE_LINES, LINE_COLUMNS, LONG_PAUSE_MS, Cue, make_cues
from shared.speech.scripts import columns
from shared.speech.transcript import Header, Segment, Transcript, Word

ROOT = Path(__file__).resolve().parents[2]


def cues_of(transcript: Transcript) -> list[Cue]:
    return list(make_cues(transcript, transcript.segments))


def speak(
    text: str, *, start: float = 0.0, word_s: float = 0.3, pauses: dict[str, float] | None = None
) -> list[Word]:
    """Words of equal length, one after another; ``pauses`` come after the words that they name."""
    words = []
    for spoken in text.split():
        end = round(start + word_s, 3)
        words.append(Word(text=spoken, start=start, end=end))
        start = round(end + (pauses or {}).get(spoken, 0.0), 3)
    return words


def text_of(cue: Cue) -> str:
    return " ".join(cue.lines)


def fits(text: str) -> bool:
    """Say whether a text wraps into a cue in some way."""
    words = text.split()
    return len(text) <= LINE_COLUMNS or any(
        max(len(" ".join(words[:at])), len(" ".join(words[at:]))) <= LINE_COLUMNS
        for at in range(1, len(words))
    )


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


def test_text_that_does_not_wrap_leaves_no_word_over() -> None:
    """82 characters, but no line break leaves both lines at 42 or less."""
    text = "The representatives unanimously acknowledged internationalization responsibilities"
    assert LINE_COLUMNS < len(text) <= LINE_COLUMNS * CUE_LINES
    assert not fits(text)

    cues = cues_of(transcript_of(speak(text)))

    assert [len(text_of(cue).split()) for cue in cues] == [3, 3]


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


def test_lines_are_balanced_and_break_at_commas() -> None:
    (balanced,) = cues_of(
        transcript_of(speak("Every afternoon somebody remembers another forgotten anniversary"))
    )
    (comma,) = cues_of(
        transcript_of(speak("When it had stopped raining, they walked back to the station"))
    )

    assert balanced.lines == (
        "Every afternoon somebody remembers",
        "another forgotten anniversary",
    )
    assert comma.lines == ("When it had stopped raining,", "they walked back to the station")


def test_lines_break_before_an_article_and_leave_no_short_word_alone() -> None:
    (article,) = cues_of(
        transcript_of(speak("They had never seen anything as big as the old tower of the town."))
    )
    (alone,) = cues_of(
        transcript_of(speak("Nobody believed anything of what they said so."), language="en")
    )

    assert article.lines == ("They had never seen anything as big", "as the old tower of the town.")
    assert min(map(len, alone.lines)) > LINE_COLUMNS / 3


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (
            "ja",
            [*"吾輩は猫である", "。", *"名前はまだ無い", "。", *"どこで生れたか", "、", *"知らぬ"],
        ),
        ("zh", [*"我家门前有两棵树", "，", "一", "棵", *"是枣树", "。"]),  # noqa: RUF001
        ("en", ["Well", ",", "then", "(", "as", "you", "know", ")", "it", "rained", "!"]),
    ],
)
def test_no_line_begins_with_a_closing_mark_or_ends_with_an_opening_one(
    language: str, words: list[str]
) -> None:
    """Whatever the width."""
    spoken = [Word(text=text, start=n * 0.2, end=n * 0.2 + 0.2) for n, text in enumerate(words * 5)]
    transcript = transcript_of(spoken, language=language)

    for line_columns in range(10, 30):
        for cue in make_cues(transcript, transcript.segments, line_columns=line_columns):
            assert not any(line.startswith(tuple("。、，,)!")) for line in cue.lines)  # noqa: RUF001
            assert not any(line.endswith("(") for line in cue.lines)


def test_scripts_without_spaces_break_at_their_marks() -> None:
    text = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
    words = [Word(text=text[at], start=at * 0.15, end=at * 0.15 + 0.15) for at in range(len(text))]
    transcript = transcript_of(words, language="ja")

    cues = list(make_cues(transcript, transcript.segments, line_columns=36))

    assert [cue.lines for cue in cues] == [
        ("吾輩は猫である。名前はまだ無い。", "どこで生れたかとんと見当がつかぬ。")
    ]


def test_long_words_are_split_evenly_and_never_within_a_character() -> None:
    thai = "ที่นี่มีน้ำ" * 10

    (cue,) = cues_of(transcript_of([Word(text=thai, start=0, end=5)], language="th"))

    assert "".join(cue.lines) == thai
    assert min(map(len, cue.lines)) > LINE_COLUMNS / 2
    assert cue.lines[1][0] in "ทนม"


def test_right_to_left_text_keeps_its_order() -> None:
    text = "ذهبنا إلى المدينة القديمة في الصباح، ثم عدنا إلى البيت قبل المساء"

    cues = cues_of(transcript_of(speak(text), language="ar"))

    assert " ".join(text_of(cue) for cue in cues) == text
    assert cues[0].lines[0].endswith("،")


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


@pytest.mark.parametrize("language", ["zh", "ja", "ko", "yue"])
def test_lines_of_full_width_characters_have_sixteen_of_them(language: str) -> None:
    words = [Word(text="語", start=n * 0.3, end=n * 0.3 + 0.3) for n in range(100)]
    transcript = transcript_of(words, language=language)

    usual = [line for cue in cues_of(transcript) for line in cue.lines]
    wide = make_cues(transcript, transcript.segments, line_columns=60)

    assert max(map(len, usual)) == 16
    assert max(len(line) for cue in wide for line in cue.lines) > 16
    assert "".join(usual) == "語" * 100


def test_marks_over_letters_take_no_column() -> None:
    assert columns("ที่นี่") == 2
    assert columns("caf\u0065\u0301") == 4
    assert columns("語 R&D") == 6


def test_lines_break_at_the_spaces_that_a_script_without_spaces_has() -> None:
    text = "ฉันใช้โปรแกรมนี้ทุกวัน และฉันชอบมันมาก"
    first, second = text.split()
    words = [
        Word(text=character, separator=" " * (i == 0 and part == second), start=at, end=at + 0.1)
        for part, begins in ((first, 0.0), (second, 2.4))
        for i, character in enumerate(part)
        for at in [begins + i * 0.1]
    ]
    transcript = transcript_of(words, language="th")

    (cue,) = make_cues(transcript, transcript.segments, line_columns=26)

    assert cue.lines == (first, second)


def test_cues_and_lines_are_clauses_where_these_fit() -> None:
    words = speak(
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the "
        "age of foolishness, it was the epoch of belief, it was the epoch of incredulity,",
        word_s=0.24,
        pauses={"times,": 0.3, "wisdom,": 0.4, "foolishness,": 0.6, "belief,": 0.3},
    )

    assert [cue.lines for cue in cues_of(transcript_of(words))] == [
        ("It was the best of times,", "it was the worst of times,"),
        ("it was the age of wisdom,", "it was the age of foolishness,"),
        ("it was the epoch of belief,", "it was the epoch of incredulity,"),
    ]


@pytest.mark.parametrize(
    ("language", "text", "function_words"),
    [
        (
            "en",
            (
                "the period was so far like the present period that some of its noisiest "
                "authorities insisted on its being received for good or for evil in the "
                "superlative degree"
            ),
            {"the", "like", "that", "of", "its", "on", "for", "or", "in", "was", "so"},
        ),
        (
            "de",
            (
                "die Leute aus der Stadt wollten nicht glauben dass der alte Turm neben einer "
                "Kirche stehen könnte weil sie ihn noch niemals mit eigenen Augen gesehen hatten"
            ),
            {"die", "aus", "der", "nicht", "dass", "neben", "einer", "weil", "mit"},
        ),
        (
            "fr",
            (
                "les gens de la ville disaient toujours que cette vieille tour devait être tombée "
                "pendant une tempête parce que personne dans notre maison ne pouvait la voir"
            ),
            {"les", "de", "la", "que", "cette", "pendant", "une", "dans", "notre", "ne"},
        ),
    ],
)
def test_no_line_ends_with_a_word_that_belongs_to_the_next(
    language: str, text: str, function_words: set[str]
) -> None:
    cues = cues_of(transcript_of(speak(text, pauses={"its": 0.4}), language=language))

    lines = [line for cue in cues for line in cue.lines]
    assert len(lines) > 3
    assert not [line for line in lines if line.split()[-1] in function_words]


def test_a_sentence_ends_after_the_marks_that_stand_apart() -> None:
    words = speak("Il a dit : « Va ! » Puis il est parti avec toi hier.", word_s=0.25)

    first, second = cues_of(transcript_of(words, language="fr"))

    assert first.lines == ("Il a dit : « Va ! »",)
    assert second.lines == ("Puis il est parti avec toi hier.",)
