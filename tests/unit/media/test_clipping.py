"""What counts as clipped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.media.clipping import FULL_SCALE, MIN_RUN_SAMPLES, ClippingMeter


def measure(samples: list[int], *cuts: int) -> float:
    meter = ClippingMeter()
    for block in np.split(np.array(samples, np.int16), sorted(cuts)):
        meter.push(block)
    return meter.share


@pytest.mark.parametrize(
    ("samples", "share"),
    [
        ([0] * 10, 0),
        ([32767, 32767, 0, 32767, 0, 0, 0, 0, 0, 0], 0),  # peaks of one and two samples
        ([0, 32767, 32767, 32767, 0, 0, 0, 0, 0, 0], 0.3),
        ([-32768] * 4 + [0] * 4 + [FULL_SCALE] * 2, 0.4),
        ([0] * 5 + [-FULL_SCALE] * 5, 0.5),
        ([32767, -32768] * 5, 1),
        ([], 0),
    ],
)
def test_runs_at_full_scale_are_clipped(samples: list[int], share: float) -> None:
    assert measure(samples) == pytest.approx(share)


@given(st.lists(st.sampled_from([0, 32767, -32768]), min_size=1, max_size=40), st.data())
def test_clipping_does_not_depend_on_where_blocks_end(
    samples: list[int], data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=5))
    runs = "".join("x" if sample else " " for sample in samples).split()

    clipped = sum(len(run) for run in runs if len(run) >= MIN_RUN_SAMPLES)

    assert measure(samples, *cuts) == pytest.approx(clipped / len(samples))
