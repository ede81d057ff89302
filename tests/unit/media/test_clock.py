"""What timestamps say about where the sound is, and which of them are believed."""

import av
import numpy as np
import pytest

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.timemap import TimeMap, time_of
from shared.speech.chunks.chunk import Chunk, chunk_from_json, chunk_to_json
from worker.media.clock import Clock

FRAME_S = 0.02


def frame() -> av.AudioFrame:
    samples = np.zeros((1, int(FRAME_S * SAMPLE_RATE)), np.float32)
    made = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    made.sample_rate = SAMPLE_RATE
    return made


def place(stamps_s: list[float], repeated_s: float = 0.0) -> tuple[list[float], TimeMap]:
    """Return the silence before each frame that is placed, and the map."""
    clock = Clock(lambda _frames, _back_s: repeated_s)
    gaps = [gap_s for at_s in stamps_s for gap_s in take(clock, at_s)]
    return gaps + [placed.gap_s for placed in clock.finish()], clock.times


def take(clock: Clock, stamp_s: float) -> list[float]:
    """Give a clock the next frame; return the silence before each that is placed now."""
    if clock.advance(stamp_s, FRAME_S):
        return [0.0]
    return [placed.gap_s for placed in clock.push(frame(), stamp_s)]


def steady(n: int) -> list[float]:
    return [index * FRAME_S for index in range(n)]


@pytest.mark.parametrize("off_s", [0.5, 5.0, -0.5, 1800.0])
@pytest.mark.parametrize("at", [0, 200, 499])
@pytest.mark.parametrize("n_wrong", [1, 20])
def test_wrong_stamps_that_later_ones_do_not_confirm_move_nothing(
    off_s: float, at: int, n_wrong: int
) -> None:
    stamps = steady(500)
    n_wrong = 1 if at != 200 else n_wrong
    for index in range(at, at + n_wrong):
        stamps[index] += off_s

    gaps, times = place(stamps)

    assert len(gaps) == 500
    assert not any(gaps)
    assert not times.anchors


def test_jitter_and_bursts_move_nothing_for_long() -> None:
    rng = np.random.default_rng(4)
    jitter = [at_s + rng.uniform(-0.05, 0.05) for at_s in steady(2000)]
    bursts = [at_s - at_s % 0.4 for at_s in steady(2000)]

    for stamps in (jitter, bursts):
        gaps, times = place(stamps)
        assert len(gaps) == 2000
        assert sum(gaps) < 0.11
        assert abs(times.time_of(30 * SAMPLE_RATE) / SAMPLE_RATE - 30) < 0.11


@pytest.mark.parametrize("hole_s", [0.2, 5.0, 1800.0])
def test_a_jump_that_later_stamps_confirm_is_silence_where_it_is(hole_s: float) -> None:
    stamps = [at_s + (hole_s if index >= 200 else 0) for index, at_s in enumerate(steady(500))]

    gaps, times = place(stamps)

    assert [index for index, gap_s in enumerate(gaps) if gap_s] == [200]
    assert gaps[200] == pytest.approx(hole_s)
    assert not times.anchors


def test_a_stream_of_a_few_frames_starts_where_the_first_one_says() -> None:
    gaps, _ = place([0.0, 3500.0, 3500.02])

    assert gaps == pytest.approx([0.0, 3500.0 - FRAME_S, 0.0])


def test_holes_that_follow_each_other_soon_are_all_filled() -> None:
    stamps = [at_s + 0.3 * (index // 30) for index, at_s in enumerate(steady(600))]

    gaps, _ = place(stamps)

    assert [index for index, gap_s in enumerate(gaps) if gap_s] == list(range(30, 600, 30))
    assert sum(gaps) == pytest.approx(0.3 * 19)


@pytest.mark.parametrize("speed", [0.98, 0.999, 1.001, 1.02])
def test_a_clock_that_runs_slow_or_fast_gives_times_but_moves_no_sample(speed: float) -> None:
    gaps, times = place([at_s * speed for at_s in steady(6000)])

    assert not any(gaps)
    for at_s in range(0, 119, 7):
        found_s = times.time_of(at_s * SAMPLE_RATE) / SAMPLE_RATE
        assert found_s == pytest.approx(at_s * speed, abs=0.03)


def test_steps_of_a_few_frames_stay_where_they_are() -> None:
    stamps = [at_s - 0.036 * (index // 300) for index, at_s in enumerate(steady(1500))]

    _, times = place(stamps)

    for second, late_s in ((3, 0), (5.5, 0), (6.5, 0.036), (20, 0.108)):
        found_s = times.time_of(round(second * SAMPLE_RATE)) / SAMPLE_RATE
        assert found_s == pytest.approx(second - late_s, abs=0.005)


def test_what_was_heard_before_is_dropped_and_all_else_is_kept() -> None:
    stamps = [at_s - (1.0 if index >= 200 else 0) for index, at_s in enumerate(steady(500))]

    kept, times = place(stamps)
    dropped, _ = place(stamps, repeated_s=1.0)

    assert (len(kept), len(dropped)) == (500, 450)
    assert not any(kept + dropped)
    assert not times.anchors, "a clock that was set back goes on where it was"


def test_a_long_drift_leaves_few_anchors_once_they_are_forgotten() -> None:
    clock = Clock(lambda _frames, _back_s: 0.0)
    most = 0
    for index in range(30_000):
        for _ in take(clock, index * FRAME_S * 0.98):
            clock.times.forget_before(int((index * FRAME_S - 30) * SAMPLE_RATE))
            most = max(most, len(clock.times.anchors))

    assert 0 < most < 600


def test_a_chunk_takes_its_part_of_the_map_along() -> None:
    times = TimeMap()
    for sample, time in ((0, 0), (1000, 1000), (2000, 1900), (9000, 8900), (10_000, 9700)):
        times.add(sample, time)
    chunk = Chunk(3, 1500, 8000, 100, 100, times=times.part(1400, 8100))

    read = chunk_from_json(3, chunk_to_json(chunk))

    assert read == chunk
    assert len(read.times) == 3
    for sample in (1400, 1500, 2000, 8000, 8100):
        assert read.time_of(sample) == times.time_of(sample)
    assert time_of((), 77) == 77
