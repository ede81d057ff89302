"""A live session that lasts: what it keeps, what its words' times are, and when they stay."""

from dataclasses import replace

import pytest

from harness.live.audio import OPTIONS, Talk, samples, say, silence, texts
from shared.speech.live.events import Partial
from shared.speech.live.segment import UNSETTLED

WITHOUT_PARTIALS = replace(OPTIONS, partials=False)


def held(talk: Talk) -> int:
    """Return the samples that a session keeps."""
    return len(talk.session._ring._bytes) // 2


def test_ten_minutes_of_talk_keep_all_lines_and_their_times_and_no_old_audio() -> None:
    talk, most = Talk(WITHOUT_PARTIALS, delay=samples(0.15)), 0
    sentences = [(number, number + 1, number + 2) for number in range(0, 1200, 3)]
    for numbers in sentences:
        sentence = say(*numbers)
        talk.push_frames(sentence + silence(1.5 - len(sentence) / 32_000), 3_200)
        most = max(most, held(talk))
    talk.finish()

    starts = [final.words[0].start for final in talk.finals]
    assert [final.text for final in talk.finals] == [texts(*numbers) for numbers in sentences]
    assert starts == pytest.approx([samples(1.5 * i) for i in range(len(sentences))], abs=200)
    assert most <= samples(2.5)


def test_a_talker_who_never_pauses_is_heard_for_minutes_with_a_bounded_buffer() -> None:
    talk, most = Talk(WITHOUT_PARTIALS, delay=samples(0.15)), 0
    numbers = range(500)
    for number in numbers:
        talk.push(say(number) + silence(0.06))
        most = max(most, held(talk))
    talk.finish()

    assert talk.session.n_samples > samples(120)
    assert talk.said == texts(*numbers)
    assert most <= samples(31)


def test_words_are_committed_within_three_hearings_of_the_moment_from_which_they_may_be() -> None:
    word = samples(0.3)
    limit = UNSETTLED + 3 * OPTIONS.partial_interval + samples(0.15) + word
    talk, lags = Talk(delay=samples(0.15)), []
    for number in range(60):
        talk.push_frames(say(number) + silence(0.06))
        partials = [event for event in talk.events if isinstance(event, Partial)]
        if talk.session.n_samples > limit + word:
            latest = partials[-1]
            lags.append(talk.session.n_samples - latest.words[latest.n_stable - 1].end)

    assert len(lags) > 40
    assert max(lags) <= limit


def test_an_hour_of_silence_takes_no_memory_and_hides_no_word() -> None:
    talk = Talk()
    minute = silence(60)
    for _ in range(60):
        talk.push(minute)
    held = len(talk.session._ring._bytes)

    talk.push_frames(say(1, 2) + silence(1))

    assert held < 2 * samples(2)
    assert talk.said == texts(1, 2)
    assert talk.finals[0].words[0].start == pytest.approx(samples(3600), abs=200)
