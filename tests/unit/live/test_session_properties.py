"""What holds of a live session whatever is said, however it is sent, and whatever a model hears."""

import random
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.live.audio import OPTIONS, Talk, samples, say, silence, texts, words
from shared.speech.live.events import Cause, Ended, Event, Final, Partial
from shared.speech.live.requests import LiveAnswer, LiveRequest


def conversation(seed: int) -> tuple[bytes, list[int]]:
    """Return audio of words with pauses of all lengths, and its words."""
    chance = random.Random(seed)
    pcm, numbers = [silence(chance.uniform(0.2, 1))], []
    for _ in range(chance.randint(1, 4)):
        phrase = [chance.randrange(65_536) for _ in range(chance.randint(1, 4))]
        numbers += phrase
        pcm += [say(*phrase, gap_s=0.05), silence(chance.uniform(0.1, 0.9))]
    return b"".join(pcm), numbers


@given(st.integers(0, 10_000), st.lists(st.integers(0, 300_000), max_size=12))
def test_the_cutting_of_the_audio_changes_no_event(seed: int, cuts: list[int]) -> None:
    pcm, numbers = conversation(seed)

    def run(ends: list[int]) -> list[Event]:
        talk = Talk(replace(OPTIONS, partials=False))
        talk.push(pcm, ends)
        talk.finish()
        return [
            replace(event, answer=None, segment="") if isinstance(event, Final) else event
            for event in talk.events
        ]

    cut = run([end for end in cuts if end < len(pcm)])
    assert cut == run([])
    assert [word.text for event in cut if isinstance(event, Final) for word in event.words] == (
        texts(*numbers).split()
    )


@given(
    st.integers(0, 10_000),
    st.lists(st.integers(0, 300_000), max_size=4, unique=True),
    st.sampled_from([0.0, 0.08, 0.25, 0.7, 2.0]),
    st.booleans(),
)
def test_every_flush_has_one_final_and_committed_text_stays(
    seed: int, flushes: list[int], delay_s: float, partials: bool
) -> None:
    pcm, _ = conversation(seed)
    flushes = sorted(at for at in flushes if at < len(pcm))
    talk = Talk(replace(OPTIONS, partials=partials), delay=samples(delay_s))
    at = 0
    for flush in flushes:
        talk.push_frames(pcm[at:flush])
        talk.take(talk.session.flush())
        at = flush
    talk.push_frames(pcm[at:])
    talk.finish()

    finals = talk.finals
    assert sum(final.cause is Cause.FLUSH for final in finals) == len(flushes)
    assert len({final.segment for final in finals}) == len(finals)
    heard = [final for final in finals if final.answer is not None]
    assert all(a.end <= b.start for a, b in pairwise(heard))
    assert_every_word_is_in_one_segment(talk)
    assert_committed_text_stays(talk.events)
    assert isinstance(talk.events[-1], Ended)


def assert_every_word_is_in_one_segment(talk: Talk) -> None:
    """Check that finals have the audio of their segments, each once."""
    by_id = {request.id: request for request in talk.requests}
    for final in talk.finals:
        if final.answer is not None:
            assert len(by_id[final.answer.id].pcm) == 2 * (final.end - final.start)


def assert_committed_text_stays(events: list[Event]) -> None:
    """Check that stable text only grows, is part of each text, and begins the final."""
    stable: dict[str, str] = {}
    for event in events:
        if isinstance(event, Partial):
            assert event.text.startswith(event.stable_text)
            assert event.stable_text.startswith(stable.get(event.segment, ""))
            stable[event.segment] = event.stable_text
        elif isinstance(event, Final):
            assert event.text.startswith(stable.pop(event.segment, ""))
    assert not stable


@given(st.data())
def test_committed_text_stays_although_the_model_changes_its_mind(data: st.DataObject) -> None:
    vocabulary = ["the", "The", "cat", "cats,", "sat", "on"]

    class Moody(Talk):
        def answer(self, request: LiveRequest) -> LiveAnswer:
            n_words = len(request.pcm) // 8_000
            text = " ".join(data.draw(st.sampled_from(vocabulary)) for _ in range(n_words))
            return LiveAnswer(request.id, words(text))

    talk = Moody(delay=data.draw(st.sampled_from([0, 3_000])))
    talk.push_frames(silence(0.5) + say(*range(8)) + silence(0.3) + say(8, 9) + silence(0.8))
    talk.finish()

    assert talk.finals
    assert_committed_text_stays(talk.events)
