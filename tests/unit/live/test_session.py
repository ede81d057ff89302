"""A session of live audio: which words come out, when, and in which order."""

from dataclasses import replace

import pytest

from harness.live.audio import (
    OPTIONS,
    Talk,
    answer_to,
    samples,
    say,
    silence,
    texts,
    words,
)
from shared.speech.live.events import (
    Cause,
    Ended,
    EndReason,
    Event,
    Failed,
    Final,
    Partial,
    SpeechEnded,
    SpeechStarted,
)
from shared.speech.live.options import samples_of
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest
from shared.speech.live.session import LiveSession

SENTENCE = silence(0.7) + say(1, 2, 3, 4) + silence(1)


def kinds(events: list[Event]) -> list[type]:
    """Return the kinds of events, a run of partials as one."""
    found: list[type] = []
    for event in events:
        if not (isinstance(event, Partial) and found and found[-1] is Partial):
            found.append(type(event))
    return found


def test_a_sentence_begins_grows_ends_and_is_final_in_this_order() -> None:
    talk = Talk()

    talk.push_frames(SENTENCE)
    talk.finish()

    assert kinds(talk.events) == [SpeechStarted, Partial, SpeechEnded, Final, Ended]
    (final,) = talk.finals
    assert final.text == texts(1, 2, 3, 4)
    assert (final.cause, final.language) == (Cause.ENDPOINT, None)
    assert talk.events[-1] == Ended(EndReason.COMPLETED, len(SENTENCE) // 2, 1)


def test_word_times_are_those_of_the_session() -> None:
    talk = Talk()

    talk.push_frames(silence(3) + say(7) + silence(1) + say(8) + silence(1))

    starts = [word.start / 16_000 for final in talk.finals for word in final.words]
    assert starts == [pytest.approx(3.0, abs=0.01), pytest.approx(4.24, abs=0.01)]


def test_a_segment_begins_before_its_first_word_and_ends_after_its_last() -> None:
    talk = Talk()

    talk.push_frames(silence(2) + say(1, 2) + silence(1))

    (final,) = talk.finals
    assert samples(2) - final.start >= samples(0.25)
    assert final.end - samples(2.54) >= samples(0.1)


@pytest.mark.parametrize("pause_s", [0.2, 0.35, 0.45, 0.6])
def test_a_flush_is_answered_by_exactly_one_final(pause_s: float) -> None:
    talk = Talk(delay=samples(0.1))
    talk.push_frames(silence(0.5) + say(1, 2, 3) + silence(pause_s))

    talk.take(talk.session.flush())
    talk.take(talk.session.flush())
    talk.finish()

    assert [final.text for final in talk.finals][-1] == ""
    assert talk.said == texts(1, 2, 3)
    assert sum(final.cause is Cause.FLUSH for final in talk.finals) == 2


def test_a_flush_in_silence_is_answered_at_once_by_an_empty_final() -> None:
    talk = Talk()
    talk.push_frames(silence(3))

    talk.take(talk.session.flush())

    assert [(final.text, final.answer) for final in talk.finals] == [("", None)]
    assert not talk.requests


def test_a_word_that_is_too_short_to_open_a_segment_is_heard_if_the_client_flushes() -> None:
    talk = Talk(replace(OPTIONS, min_speech=samples_of(400)))
    talk.push_frames(silence(0.5) + say(9))

    talk.take(talk.session.flush())
    talk.catch_up()

    assert [final.text for final in talk.finals] == [texts(9)]


def test_what_is_said_before_a_flush_comes_before_what_is_said_after_it() -> None:
    talk = Talk(delay=samples(0.3))
    talk.push_frames(silence(0.5) + say(1, 2, 3))
    talk.take(talk.session.flush())
    talk.push_frames(silence(0.06) + say(4, 5, 6) + silence(1.5))
    talk.finish()

    assert [final.text for final in talk.finals] == [texts(1, 2, 3), texts(4, 5, 6)]
    at = talk.events.index(talk.finals[0])
    assert kinds(talk.events[:at]) == [SpeechStarted, Partial, SpeechEnded]
    assert kinds(talk.events[at:])[:3] == [Final, SpeechStarted, Partial]


def test_audio_that_ends_with_the_session_is_final_before_the_end() -> None:
    talk = Talk(delay=samples(1))
    talk.push_frames(silence(0.5) + say(1, 2, 3))

    talk.finish()

    assert kinds(talk.events)[-3:] == [SpeechEnded, Final, Ended]
    assert talk.said == texts(1, 2, 3)
    assert talk.finals[0].cause is Cause.END


def test_a_session_that_is_cancelled_says_nothing_more() -> None:
    talk = Talk(delay=samples(10))
    talk.push_frames(SENTENCE)
    (segment,) = {request.segment for request in talk.requests}
    n_before = len(talk.events)

    talk.take(talk.session.cancel())
    for request in talk.requests:
        talk.take(talk.session.answer(answer_to(request)))
    talk.push_frames(SENTENCE)
    talk.take(talk.session.flush())
    talk.take(talk.session.end())

    assert talk.dropped == [segment]
    assert talk.events[n_before:] == [Ended(EndReason.CANCELLED, len(SENTENCE) // 2, 0)]


def test_a_talker_without_a_pause_is_cut_where_no_word_is_and_loses_none() -> None:
    numbers = range(130)
    talk = Talk(delay=samples(0.15))

    talk.push_frames(silence(0.5) + say(*numbers, gap_s=0.12) + silence(1))
    talk.finish()

    assert talk.said == texts(*numbers)
    assert [final.cause for final in talk.finals] == [Cause.LIMIT, Cause.ENDPOINT]
    assert all(len(request.pcm) <= 30 * 32_000 for request in talk.requests)
    assert kinds(talk.events).count(SpeechStarted) == kinds(talk.events).count(SpeechEnded) == 1
    assert max(len(r.pcm) for r in talk.requests if r.kind is LiveKind.PARTIAL) <= 8 * 32_000


def test_partials_keep_the_whole_text_of_a_segment_that_is_longer_than_their_audio() -> None:
    numbers = range(60)
    talk = Talk(delay=samples(0.15))

    talk.push_frames(silence(0.5) + say(*numbers))

    last = [event for event in talk.events if isinstance(event, Partial)][-1]
    assert last.text.startswith(texts(*range(55)))
    assert last.stable_text.startswith(texts(*range(50)))


def test_words_at_the_end_of_the_audio_are_shown_once_more_has_been_heard() -> None:
    talk = Talk()
    talk.push_frames(silence(0.5) + say(*range(10)))

    partials = [event for event in talk.events if isinstance(event, Partial)]
    ends = {request.id: request for request in talk.requests}
    assert len(partials) > 5
    for partial in partials[1:]:
        assert partial.answer is not None
        n_samples = len(ends[partial.answer.id].pcm) // 2
        assert partial.words[-1].end <= partials[0].words[-1].end or (
            partial.words[-1].end - samples(0.2) <= n_samples - samples(0.4)
        )


class Unsure(Talk):
    """A talker whose model hears these words and confidences, one after another."""

    hearings = ("and .3", "ask .3", "ask .4 not .9", "ask .4 not .9 what .2 you .9", "ask not why")

    def answer(self, request: LiveRequest) -> LiveAnswer:
        heard = self.hearings[min(len(self.requests), len(self.hearings)) - 1].split()
        confidences = [float(part) for part in heard if part[0] == "."]
        text = " ".join(part for part in heard if part[0] != ".")
        hypothesis = words(text, step=samples(0.1))
        if confidences:
            sure = zip(hypothesis.words, confidences, strict=True)
            hypothesis = replace(
                hypothesis,
                words=tuple(replace(word, confidence=confidence) for word, confidence in sure),
            )
        return LiveAnswer(request.id, hypothesis)


def test_a_word_of_which_the_model_is_unsure_is_shown_once_it_is_heard_twice() -> None:
    talk = Unsure()
    talk.push_frames(silence(0.5) + say(*range(5)))

    partials = [event for event in talk.events if isinstance(event, Partial)]
    assert len(talk.requests) >= len(talk.hearings)
    assert [*dict.fromkeys(partial.text for partial in partials)] == ["ask not", "ask not why"]


def test_words_that_were_shown_stay_until_two_hearings_in_a_row_agree_on_others() -> None:
    class Wavering(Unsure):
        hearings = (
            *["ask what your"] * 3,
            *("ask that your country", "ask what your country can"),
            *["ask that your country can"] * 2,
        )

    talk = Wavering()
    talk.push_frames(silence(0.5) + say(*range(8)))

    partials = [event for event in talk.events if isinstance(event, Partial)]
    assert len(talk.requests) >= len(talk.hearings)
    assert [*dict.fromkeys(partial.text for partial in partials)] == [
        *("ask", "ask what your", "ask what your country can", "ask that your country can"),
    ]


def test_the_likely_final_is_shown_whole_although_the_model_is_unsure_of_it() -> None:
    class Doubting(Unsure):
        hearings = ("so .2", "what .2", "that .2")

    talk = Doubting()
    talk.push_frames(silence(0.5) + say(1) + silence(0.3))

    partials = [event for event in talk.events if isinstance(event, Partial)]
    assert [(partial.text, partial.is_preflight) for partial in partials] == [("that", True)]


def test_without_voice_activity_detection_only_flushes_end_segments() -> None:
    talk = Talk(replace(OPTIONS, vad="off"))

    talk.push_frames(silence(0.4) + say(1) + silence(2) + say(2))
    talk.take(talk.session.flush())
    talk.push_frames(silence(3) + say(3) + silence(1))
    talk.finish()

    assert [final.text for final in talk.finals] == [texts(1, 2), texts(3)]
    assert {SpeechStarted, SpeechEnded}.isdisjoint(kinds(talk.events))


def test_a_session_without_partials_asks_for_none() -> None:
    talk = Talk(replace(OPTIONS, partials=False))

    talk.push_frames(SENTENCE)

    assert kinds(talk.events) == [SpeechStarted, SpeechEnded, Final]
    assert {request.kind for request in talk.requests} == {LiveKind.FINAL}


def test_partials_become_rarer_while_they_are_answered_late_and_frequent_again_after() -> None:
    def gaps(delay_s: float) -> list[int]:
        talk = Talk(delay=samples(delay_s))
        talk.push_frames(silence(0.5) + say(*range(40)))
        talk.delay = 0
        talk.catch_up(talk.session.n_samples + samples(delay_s))
        talk.push_frames(silence(0.06) + say(*range(40, 60)))
        ends = [int(request.id[2:]) for request in talk.requests]
        assert ends == sorted(ends)
        return [len(talk.requests)]

    (prompt,), (late,) = gaps(0.1), gaps(3.0)
    assert late < 0.7 * prompt


def test_a_segment_that_nobody_could_hear_says_so_and_gives_what_its_partials_heard() -> None:
    class Failing(Talk):
        def answer(self, request: LiveRequest) -> LiveAnswer:
            if request.kind is LiveKind.FINAL:
                return LiveAnswer(request.id, None, error="engine_failed")
            return answer_to(request)

    talk = Failing()
    talk.push_frames(silence(0.5) + say(1, 2, 3, 4, 5, 6) + silence(1))
    talk.finish()

    assert kinds(talk.events)[-4:] == [SpeechEnded, Failed, Final, Ended]
    (failed,) = [event for event in talk.events if isinstance(event, Failed)]
    assert failed.code == "engine_failed"
    assert talk.said.startswith(texts(1, 2, 3, 4))


def test_speech_that_stops_with_its_audio_is_final_when_the_client_falls_silent() -> None:
    talk = Talk()
    talk.push_frames(silence(0.5) + say(1, 2, 3))

    talk.take(talk.session.stall())
    talk.catch_up()
    talk.take(talk.session.stall())

    assert [final.text for final in talk.finals] == [texts(1, 2, 3)]


def test_two_sessions_share_nothing() -> None:
    first, second = Talk(), Talk()
    for frame in range(0, len(SENTENCE), 640):
        first.push(SENTENCE[frame : frame + 640])
        second.push(silence(0.02))

    assert first.said == texts(1, 2, 3, 4)
    assert not second.events


def test_a_session_makes_ids_of_its_own() -> None:
    ids = set()
    for _ in range(2):
        session = LiveSession(OPTIONS)
        session.flush()
        ids.update(effect.segment for effect in session.flush() if isinstance(effect, Final))
    assert len(ids) == 2


@pytest.mark.parametrize("start_s", [0.0, 7.3, 40_000.0])
def test_a_session_that_begins_late_does_the_same_on_a_later_clock(start_s: float) -> None:
    speech = say(9) + silence(0.7) + say(1, 2, 3) + silence(0.8)
    start = samples(start_s)

    def talk(session: LiveSession) -> list[Final]:
        talker = Talk()
        talker.session = session
        talker.push_frames(speech)
        talker.finish()
        assert talker.session.settled <= talker.session.n_samples
        return talker.finals

    early = talk(LiveSession(OPTIONS))
    late = talk(LiveSession(OPTIONS, start=start, n_finals=3))

    assert [final.text for final in late] == [texts(9), texts(1, 2, 3)]
    for one, other in zip(early, late, strict=True):
        assert (one.start + start, one.end + start) == (other.start, other.end)
        times = [(word.start + start, word.end + start) for word in one.words]
        assert times == [(word.start, word.end) for word in other.words]


def test_audio_is_settled_up_to_the_oldest_final_that_is_not_out() -> None:
    talk = Talk(delay=samples(60))
    talk.push_frames(silence(1.0) + say(1, 2) + silence(0.8) + say(3) + silence(2.0))

    unanswered = talk.session.settled
    talk.catch_up(samples(120))

    assert unanswered == pytest.approx(samples(0.7), abs=samples(0.1))
    assert talk.session.settled > talk.session.n_samples - samples(1.5)
