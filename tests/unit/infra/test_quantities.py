"""Sizes and durations in messages."""

import pytest

from shared.infra.quantities import duration, size


@pytest.mark.parametrize(
    ("n_bytes", "read"),
    [
        *((0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (200_000, "195.3 KiB")),
        *((4 * 1024**2, "4 MiB"), (2 * 1024**3, "2 GiB"), (5 * 1024**4, "5120 GiB")),
    ],
)
def test_a_size_is_read_in_its_largest_unit(n_bytes: int, read: str) -> None:
    assert size(n_bytes) == read


@pytest.mark.parametrize(
    ("seconds", "read"),
    [
        *((0.3, "0.3 seconds"), (1, "1 second"), (30.0, "30 seconds"), (60, "1 minute")),
        *((90, "90 seconds"), (5400, "90 minutes"), (3600, "1 hour"), (43_200.0, "12 hours")),
        (100_001, "100,001 seconds"),
    ],
)
def test_a_duration_is_read_in_the_largest_unit_that_it_is_whole_in(
    seconds: float, read: str
) -> None:
    assert duration(seconds) == read
