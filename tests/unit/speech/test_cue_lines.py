"""Where the lines of a cue break, in each script and width."""

import pytest

from harness.jobs.cues import cues_of, fits, speak, text_of
from harness.jobs.word_streams import transcript_of
from shared.speech.files.cues import CUE_LINES, LINE_COLUMNS, make_cues
from shared.speech.text.scripts import columns
from shared.speech.transcript.transcript import Word


def test_text_that_does_not_wrap_leaves_no_word_over() -> None:
    """82 characters, but no line break leaves both lines at 42 or less."""
    text = "The representatives unanimously acknowledged internationalization responsibilities"
    assert LINE_COLUMNS < len(text) <= LINE_COLUMNS * CUE_LINES
    assert not fits(text)

    cues = cues_of(transcript_of(speak(text)))

    assert [len(text_of(cue).split()) for cue in cues] == [3, 3]


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
