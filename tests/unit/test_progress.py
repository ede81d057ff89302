"""What progress looks like, in wide and in narrow terminals."""

import pytest

from cli.progress import duration, fit_line

LONG_NAME = "recordings/2026-11-21-meeting-of-the-board-part-one-of-three.wav"


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("fraction", [None, 0.0, 0.27, 1.0])
def test_line_never_exceeds_the_terminal(columns: int, fraction: float | None) -> None:
    detail = "1:02:03 of audio in 4:05 with upload, RTFx 15"
    assert len(fit_line(LONG_NAME, "downloading", fraction, detail, columns)) <= columns


@pytest.mark.parametrize("columns", [40, 80])
def test_percent_and_time_left_are_whole_in_common_widths(columns: int) -> None:
    line = fit_line(LONG_NAME, "12 %", 0.12, "RTFx 3.7, 2:05 left", columns)
    assert "12 %" in line
    assert "RTFx 3.7, 2:05 left" in line


def test_shortened_name_keeps_its_end() -> None:
    assert fit_line(LONG_NAME, "queued", None, "", 80).split()[0].endswith("of-three.wav")


def test_bar_is_filled_as_far_as_the_work_is_done() -> None:
    line = fit_line("a.wav", "50 %", 0.5, "", 120)
    assert line.count("\u2501") == line.count("\u254c") > 0


def test_bar_is_shown_only_where_there_is_something_to_measure() -> None:
    assert "\u254c" not in fit_line("a.wav", "queued", None, "", 80)
    assert "\u2501" not in fit_line("a.wav", "done", 1.0, "", 80)


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.24, "8.2 s"), (245, "4:05"), (3599.6, "1:00:00"), (3723, "1:02:03")]
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
