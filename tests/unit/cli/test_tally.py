"""How far a batch is, from how far its files are."""

from pathlib import Path

import pytest

from cli.transcribe.sources import Source
from cli.transcribe.tally import Tally
from cli.transcribe.work import State, Work


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def work(name: str, size_bytes: int) -> Work:
    path = Path(name)
    return Work(Source(path, path.absolute(), name, path, size_bytes))


def end(done: Work, audio_s: float, *, cached: bool = False) -> None:
    done.audio_s, done.cached, done.share, done.state = audio_s, cached, 1.0, State.DONE


def test_total_counts_what_is_done_failed_and_heard(clock: Clock) -> None:
    works = [work(f"{n}.wav", 100) for n in range(4)]
    tally = Tally(works, clock)
    end(works[0], 60.0)
    works[1].state = State.FAILED
    works[2].audio_s, works[2].share = 60.0, 0.5
    clock.now_s = 9.0
    total = tally.total()
    assert (total.files, total.done, total.failed, total.audio_s) == (4, 1, 1, 60.0)
    assert total.rtfx == pytest.approx((60 + 30) / 9)
    assert total.fraction == pytest.approx((1 + 1 + 0.5 + 0) / 4)


def test_lengths_not_known_yet_are_guessed_from_files_of_the_same_kind(clock: Clock) -> None:
    works = [
        *(work("a.wav", 1000), work("b.mp3", 100), work("c.mp3", 300), work("d.opus", 220)),
    ]
    tally = Tally(works, clock)
    tally.total()
    end(works[0], 10.0)  # 100 bytes a second
    end(works[1], 10.0)  # 10 bytes a second
    assert tally._audio() == (20.0, pytest.approx(10 + 10 + 30 + 220 * 20 / 1100))


def test_what_was_cached_is_no_work(clock: Clock) -> None:
    works = [work(f"{n}.wav", 100) for n in range(3)]
    tally = Tally(works, clock)
    end(works[0], 1000.0, cached=True)
    end(works[1], 10.0)
    clock.now_s = 5.0
    total = tally.total()
    assert total.rtfx == pytest.approx(2.0)
    assert total.audio_s == 1010.0


def test_time_left_counts_down_to_nothing_and_is_not_told_at_the_end(clock: Clock) -> None:
    works = [work(f"{n}.wav", 100) for n in range(100)]
    tally = Tally(works, clock)
    told = []
    for one in works:
        clock.now_s += 1.0
        end(one, 60.0)
        told.append(tally.total().eta_s)
    assert told[50] == pytest.approx(49.0, abs=1.0)
    assert told[-1] is None


def test_summary_names_everything_that_came_out(clock: Clock) -> None:
    works = [work(f"{n}.wav", 100) for n in range(5)]
    tally = Tally(works, clock)
    end(works[0], 3600.0, cached=True)
    end(works[1], 60.0)
    end(works[2], 60.0)
    works[3].state = State.FAILED
    clock.now_s = 100.0
    assert tally.summary(skipped=2, refused=1) == (
        "3 of 8 files done (1 cached), 2 failed, 2 skipped, 1 not done; "
        "1:02:00 of audio in 1:40, RTFx 1.2"
    )
