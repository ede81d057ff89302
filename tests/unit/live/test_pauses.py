"""A pause in speech: the final is asked for ahead, and what was heard up to the pause stays."""

from dataclasses import replace

from harness.live.audio import OPTIONS, Talk, read_tones, samples, say, silence, texts, words
from shared.speech.live.events import Partial
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest


def test_a_final_is_asked_for_in_the_pause_and_given_when_the_silence_is_long_enough() -> None:
    talk = Talk()
    talk.push_frames(silence(0.5) + say(1, 2, 3))
    n_before = len(talk.requests)

    talk.push_frames(silence(0.3))

    (asked,) = talk.requests[n_before:]
    assert asked.kind is LiveKind.FINAL
    assert not talk.finals
    talk.push_frames(silence(0.3))
    assert len(talk.requests) == n_before + 1
    assert talk.finals[0].text == texts(1, 2, 3)


def test_the_text_of_a_likely_final_is_shown_as_such_in_the_pause() -> None:
    talk = Talk()
    talk.push_frames(silence(0.5) + say(1, 2, 3) + silence(0.3))

    partials = [event for event in talk.events if isinstance(event, Partial)]
    assert [partial.is_preflight for partial in partials] == [False] * (len(partials) - 1) + [True]
    assert partials[-1].text == texts(1, 2, 3)
    assert talk.finals == []
    talk.push_frames(silence(0.5))
    assert [final.text for final in talk.finals] == [partials[-1].text]


def test_a_final_that_was_asked_for_ahead_is_not_given_when_speech_goes_on() -> None:
    talk = Talk()

    talk.push_frames(silence(0.5) + say(1, 2) + silence(0.35) + say(3, 4) + silence(0.8))

    (final,) = talk.finals
    assert final.text == texts(1, 2, 3, 4)
    finals = [request for request in talk.requests if request.kind is LiveKind.FINAL]
    assert len(finals) == 2


class Skipping(Talk):
    """A talker whose model leaves out all that it hears without a pause behind it."""

    repeats_itself = False

    def answer(self, request: LiveRequest) -> LiveAnswer:
        hypothesis = read_tones(request)
        if request.kind is LiveKind.PARTIAL:
            hypothesis = replace(hypothesis, words=())
        return LiveAnswer(request.id, replace(hypothesis, loop_suspected=self.repeats_itself))


def test_what_is_heard_up_to_a_pause_is_committed_but_for_its_last_second() -> None:
    talk = Skipping()
    talk.push_frames(silence(0.5) + say(*range(12)) + silence(0.35) + say(*range(12, 20)))

    (preflight,) = (event for event in talk.events if isinstance(event, Partial))
    assert preflight.text == texts(*range(12))
    (asked,) = (request for request in talk.requests if request.kind is LiveKind.FINAL)
    settled = preflight.words[0].start - samples(0.3) + len(asked.pcm) // 2 - samples(1)
    assert preflight.n_stable == sum(
        (word.start + word.end) // 2 < settled for word in preflight.words
    )
    assert preflight.n_stable > 5


def test_a_model_that_repeats_itself_up_to_a_pause_has_nothing_committed() -> None:
    class Repeating(Skipping):
        repeats_itself = True

    talk = Repeating()
    talk.push_frames(silence(0.5) + say(*range(12)) + silence(0.35) + say(*range(12, 20)))

    (preflight,) = (event for event in talk.events if isinstance(event, Partial))
    assert (preflight.text, preflight.n_stable) == (texts(*range(12)), 0)


def test_without_partials_the_final_is_the_last_hearing_alone() -> None:
    class Improving(Talk):
        def answer(self, request: LiveRequest) -> LiveAnswer:
            numbers = range(12) if len(self.requests) == 1 else range(50, 62)
            return LiveAnswer(request.id, words(texts(*numbers)))

    talk = Improving(replace(OPTIONS, partials=False))
    talk.push_frames(silence(0.5) + say(*range(12)) + silence(0.35) + say(12, 13) + silence(1))

    (final,) = talk.finals
    assert final.text == texts(*range(50, 62))
