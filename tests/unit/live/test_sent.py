"""What a stream keeps of the audio that it sent."""

from longhand_sdk.sent import SAMPLE_RATE, Flush, Unacknowledged


def replayed(sent: Unacknowledged) -> list[bytes | str]:
    return ["flush" if isinstance(item, Flush) else item for item in sent.replay(2)]


def test_acknowledged_audio_is_not_sent_again() -> None:
    sent = Unacknowledged()
    sent.append(b"aabbccdd")
    sent.acknowledge(1)
    assert (sent.start, sent.end) == (1, 4)
    assert replayed(sent) == [b"bbcc", b"dd"]


def test_a_flush_is_sent_again_at_its_place() -> None:
    sent = Unacknowledged()
    sent.append(b"aabbcc")
    sent.append_flush()
    sent.append(b"dd")
    assert replayed(sent) == [b"aabb", b"cc", "flush", b"dd"]
    sent.acknowledge_flush()
    assert replayed(sent) == [b"aabb", b"ccdd"]


def test_a_flush_outlives_the_audio_before_it() -> None:
    sent = Unacknowledged()
    sent.append(b"aabb")
    sent.append_flush()
    sent.acknowledge(2)
    assert replayed(sent) == ["flush"]


def test_audio_beyond_the_limit_is_given_up_from_its_beginning() -> None:
    sent = Unacknowledged(limit_s=2 / SAMPLE_RATE)
    sent.append(b"aabbcc")
    assert (sent.start, sent.end) == (1, 3)
    assert replayed(sent) == [b"bbcc"]


def test_an_acknowledgement_of_what_was_not_sent_yet_goes_no_further() -> None:
    sent = Unacknowledged()
    sent.append(b"aabb")
    sent.acknowledge(100)
    assert (sent.start, sent.end) == (2, 2)


def test_a_session_that_lacks_what_was_given_up_gets_silence_for_it() -> None:
    sent = Unacknowledged(limit_s=2 / SAMPLE_RATE)
    sent.append(b"aabbccdd")
    assert [*sent.resume(0, 2)] == [bytes(4), b"ccdd"]
    assert [*sent.resume(3, 2)] == [b"dd"]
