"""Words get their speakers one by one, from the turns of a diarization."""

import json
from dataclasses import replace

from harness.jobs.transcripts import contents, docx_paragraphs
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.chunk import Chunk
from shared.speech.files.formats import render
from shared.speech.speakers.assign import SpeakerLabels, SpeakerTurns, assign_speakers
from shared.speech.speakers.spans import SpanPlanner, SpeakerSpan, Stretch, on_file_clock
from shared.speech.speakers.turns import Turn
from shared.speech.transcript.segments import PlacedWord, make_segments
from shared.speech.transcript.transcript import Segment, Speaker, TranscriptHeader, Word


def words(*spoken: tuple[str, float, float]) -> list[Word]:
    return [
        Word(text=text, separator=" " if n else "", start=start, end=end)
        for n, (text, start, end) in enumerate(spoken)
    ]


def speakers(spoken: list[Word], *turns: Turn) -> list[int | None]:
    return [word.speaker for word in assign_speakers(spoken, SpeakerTurns(turns))]


def run(text: str, start: float = 0.0, each: float = 0.3) -> list[Word]:
    """Words without pauses between them."""
    return words(
        *((word, start + n * each, start + (n + 1) * each) for n, word in enumerate(text.split()))
    )


def test_a_sentence_may_have_words_of_two_speakers() -> None:
    spoken = run("are you there yes I am")
    assert speakers(spoken, Turn(0, 0.9, 0), Turn(0.9, 2, 1)) == [0, 0, 0, 1, 1, 1]


def test_a_word_goes_to_who_covers_most_of_it() -> None:
    spoken = words(("hello", 0.0, 0.5))
    assert speakers(spoken, Turn(0, 0.2, 0), Turn(0.2, 1, 1)) == [1]


def test_a_word_that_is_stretched_over_a_pause_stays_with_who_began_it() -> None:
    spoken = words(("well", 0.5, 9.0), ("no", 9.0, 9.3))
    assert speakers(spoken, Turn(0, 1, 0), Turn(3, 10, 1)) == [0, 1]


def test_a_word_in_a_gap_takes_the_neighbour_on_its_side_of_the_pause() -> None:
    early = words(("one", 0.0, 0.3), ("two", 0.35, 0.6), ("three", 1.2, 1.5))
    assert speakers(early, Turn(0, 0.3, 0), Turn(1.2, 2, 1)) == [0, 0, 1]
    late = words(("one", 0.0, 0.3), ("two", 0.9, 1.15), ("three", 1.2, 1.5))
    assert speakers(late, Turn(0, 0.3, 0), Turn(1.2, 2, 1)) == [0, 1, 1]


def test_a_word_without_neighbours_takes_a_near_turn_or_nobody() -> None:
    assert speakers(words(("yes", 5.0, 5.2)), Turn(0, 4.5, 3)) == [3]
    assert speakers(words(("yes", 5.0, 5.2)), Turn(0, 3.9, 3)) == [None]
    assert speakers(words(("yes", 5.0, 5.2))) == [None]


def test_an_unsure_island_is_given_to_the_words_around_it() -> None:
    spoken = run("so we go on from here")
    around = Turn(0, 0.6, 0), Turn(0.9, 2, 0)
    assert speakers(spoken, *around, Turn(0.6, 0.9, 1, confidence=0.2)) == [0] * 6
    assert speakers(spoken, *around, Turn(0.6, 0.9, 1, confidence=0.9)) == [0, 0, 1, 0, 0, 0]


def test_an_island_of_three_words_stays() -> None:
    spoken = run("so we go on from here")
    unsure = Turn(0.6, 1.5, 1, confidence=0.2)
    assert speakers(spoken, Turn(0, 0.6, 0), unsure, Turn(1.5, 2, 0)) == [0, 0, 1, 1, 1, 0]


def test_a_pause_or_a_sentence_end_supports_an_island() -> None:
    unsure = Turn(0.6, 0.9, 1, confidence=0.2)
    around = Turn(0, 0.6, 0), Turn(0.9, 3, 0)
    assert speakers(run("so we. right on from here"), *around, unsure)[2] == 1
    paused = [*run("so we right"), *run("on from here", start=1.2)]
    assert speakers(paused, *around, unsure)[2] == 1


def test_words_while_another_speaks_are_flagged() -> None:
    spoken = run("one two three four")
    found = assign_speakers(spoken, SpeakerTurns([Turn(0, 2, 0), Turn(0.6, 0.9, 1)]))
    assert [word.overlap for word in found] == [False, False, True, False]
    assert [word.speaker for word in found] == [0, 0, 0, 0]


def test_a_turn_of_an_hour_is_found() -> None:
    spoken = words(("word", 3_000.0, 3_000.4))
    assert speakers(spoken, Turn(0, 3_600, 2), Turn(3_601, 3_602, 1)) == [2]


def test_segments_break_where_the_speaker_changes() -> None:
    spoken = run("are you there yes I am.")
    labels = SpeakerLabels([Turn(0, 0.9, 0), Turn(0.9, 2, 1)])
    placed = (PlacedWord(word, "en", None) for word in spoken)
    segments = list(make_segments(placed, labels.label))
    assert [(each.text, each.speaker) for each in segments] == [
        ("are you there", 0),
        ("yes I am.", 1),
    ]
    assert [(each.name, each.speech_s) for each in labels.found()] == [
        ("Speaker 0", 0.9),
        ("Speaker 1", 0.9),
    ]


HEADER = TranscriptHeader(
    language="en",
    duration_s=9.0,
    speech_s=9.0,
    skipped_s=0.0,
    speakers=[
        Speaker(id=0, name="Anna & Co", speech_s=0.6),
        Speaker(id=1, name="Speaker 1", speech_s=0.6),
    ],
)


def segment(number: int, text: str, start: float, speaker: int | None) -> Segment:
    spoken = [word.model_copy(update={"speaker": speaker}) for word in run(text, start)]
    return Segment(
        id=number, start=start, end=spoken[-1].end, text=text, words=spoken, speaker=speaker
    )


SEGMENTS = [segment(0, "Who goes there?", 0.0, 0), segment(1, "It is me.", 1.0, 1)]


def written(name: str, segments: list[Segment] = SEGMENTS) -> str:
    return contents(render(HEADER, segments, name)).decode()


def test_txt_has_a_line_for_each_speaker() -> None:
    assert written("txt") == "Anna & Co: Who goes there?\nSpeaker 1: It is me.\n"


def test_subtitles_name_speakers_and_no_cue_has_two() -> None:
    assert "<v Anna &amp; Co>Who goes there?\n" in written("vtt")
    assert "<v Speaker 1>It is me.\n" in written("vtt")
    assert "\nAnna & Co: Who goes there?\n" in written("srt")
    assert "\nSpeaker 1: It is me.\n" in written("srt")


def test_tsv_has_a_column_for_the_speaker() -> None:
    unknown = [*SEGMENTS, segment(2, "Hm.", 4.0, None)]
    assert written("tsv", unknown).splitlines() == [
        "start\tend\ttext\tspeaker",
        "0\t900\tWho goes there?\tAnna & Co",
        "1000\t1900\tIt is me.\tSpeaker 1",
        "4000\t4300\tHm.\t",
    ]


def test_docx_names_the_speaker_of_each_paragraph() -> None:
    found = docx_paragraphs(contents(render(HEADER, SEGMENTS, "docx")))
    assert found == [
        "00:00:00 – Anna & Co",  # noqa: RUF001
        "Who goes there?",
        "00:00:01 – Speaker 1",  # noqa: RUF001
        "It is me.",
    ]


def test_json_has_speakers_of_words_segments_and_paragraphs() -> None:
    found = json.loads(written("json"))
    assert [each["speaker"] for each in found["paragraphs"]] == [0, 1]
    assert [each["speaker"] for each in found["segments"]] == [0, 1]
    assert [word["speaker"] for word in found["segments"][1]["words"]] == [1, 1, 1]
    assert found["speakers"][0] == {
        "id": 0,
        "name": "Anna & Co",
        "speech_s": 0.6,
        "recognized": None,
    }


def test_a_word_at_a_sentences_edge_goes_with_the_sentence_near_the_turns_border() -> None:
    spoken = run("I did not know you were there.")
    assert speakers(spoken, Turn(0, 1.7, 1), Turn(1.7, 5, 0)) == [1] * 7
    assert speakers(spoken, Turn(0, 0.4, 0), Turn(0.4, 3, 1)) == [1] * 7


def test_a_word_at_a_sentences_edge_stays_where_something_speaks_for_a_change() -> None:
    long_before = Turn(0, 1.0, 1), Turn(1.8, 5, 0)
    assert speakers(run("I did not know you were there."), *long_before)[-1] == 0
    paused = [*run("I did not know you were"), *run("there.", start=2.2)]
    assert speakers(paused, Turn(0, 1.9, 1), Turn(2.1, 5, 0))[-1] == 0
    assert speakers(run("I did not know you were there"), Turn(0, 1.7, 1), Turn(1.7, 5, 0))[-1] == 0
    assert speakers(run("I was there now."), Turn(0, 0.6, 1), Turn(0.6, 5, 0)) == [1, 1, 0, 0]


def chunks(*bounds_s: tuple[int, int]) -> list[Chunk]:
    """Chunks without strides, stored one after another."""
    made, stored_at = [], 0
    for index, (start, end) in enumerate(bounds_s):
        a, b = start * SAMPLE_RATE, end * SAMPLE_RATE
        made.append(Chunk(index, a, b, 0, 0, stored_at=stored_at))
        stored_at += b - a
    return made


def planned(*bounds_s: tuple[int, int]) -> list[SpeakerSpan]:
    planner = SpanPlanner()
    return [*planner.push(chunks(*bounds_s)), *planner.finish()]


def test_a_span_is_ten_minutes_of_chunks_with_context_of_its_neighbours() -> None:
    first, second = planned((0, 290), (300, 590), (600, 890))
    s = SAMPLE_RATE
    # The chunk that follows begins 10 s after the span's last one: there is no sound in between.
    assert (first.start, first.end) == (0, 590 * s)
    assert first.stretches == (Stretch(0, 290 * s, 0), Stretch(300 * s, 590 * s, 290 * s))
    assert (second.start, second.end) == (595 * s, 890 * s)
    first, second = planned((0, 290), (290, 590), (590, 890))
    assert (first.end, second.start) == (595 * s, 585 * s)
    assert first.stretches == (Stretch(0, 595 * s, 0),)
    assert second.stretches == (Stretch(585 * s, 890 * s, 585 * s),)


def test_silence_of_hours_makes_no_span() -> None:
    far = planned((0, 20), (36_000, 36_020))
    assert [round(each.end / SAMPLE_RATE) for each in far] == [20, 36_020]
    assert all(each.end - each.start <= 30 * SAMPLE_RATE for each in far)


def test_spans_are_read_back_as_they_were_written() -> None:
    for span in planned((0, 290), (300, 590), (600, 890)):
        assert SpeakerSpan.from_json(json.loads(json.dumps(span.to_json()))) == span


def test_turns_are_told_on_the_clock_of_the_file() -> None:
    late = replace(chunks((0, 20))[0], times=((0, 0), (10 * SAMPLE_RATE, 70 * SAMPLE_RATE)))
    planner = SpanPlanner()
    planner.push([late])
    (turn,) = on_file_clock([Turn(10.0, 12.0, 0)], planner.finish())
    assert (turn.start_s, turn.end_s) == (70.0, 72.0)
