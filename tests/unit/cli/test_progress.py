"""What progress looks like, in wide and in narrow terminals, and where there is none."""

import dataclasses
import io
from collections.abc import Iterator

import pytest
from rich.cells import cell_len
from rich.console import Console

from cli.progress.figures import Total, duration
from cli.progress.lines import Progress
from cli.progress.terminal import TerminalProgress, fit_line, fit_total
from harness.programs.terminal import Terminal

LONG_NAME = "recordings/2026-11-21-meeting-of-the-board-part-one-of-three.wav"
TOTAL = Total(files=200, done=57, failed=2, fraction=0.3, audio_s=4321.0, rtfx=34.2, eta_s=3725.0)


class Screen:
    """A terminal of 24 x 80 whose cursor stands in its last row, and progress on it."""

    def __init__(self) -> None:
        self._written = io.StringIO()
        console = Console(
            file=self._written, force_terminal=True, width=80, height=24, color_system=None
        )
        self.progress = TerminalProgress(console)

    def read(self) -> Terminal:
        """End the display; return the terminal as it is then."""
        self.progress.finish()
        terminal = Terminal(at_row=23)
        terminal.feed(self._written.getvalue())
        return terminal


@pytest.fixture
def screen() -> Iterator[Screen]:
    made = Screen()
    yield made
    made.progress.finish()


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("fraction", [None, 0.0, 0.27, 1.0])
@pytest.mark.parametrize(
    "name", [LONG_NAME, "a.wav", "会議/録音の長い長い長いファイル名その一.wav"]
)
def test_line_never_exceeds_the_terminal(columns: int, fraction: float | None, name: str) -> None:
    detail = "1:02:03 of audio in 4:05 with upload, RTFx 15"
    assert cell_len(fit_line(name, "downloading", fraction, detail, columns)) <= columns


@pytest.mark.parametrize("columns", [10, 20, 40, 60, 80, 200])
def test_total_never_exceeds_the_terminal(columns: int) -> None:
    assert len(fit_total(TOTAL, columns)) <= columns


def test_total_tells_files_failures_audio_speed_and_time_left() -> None:
    line = fit_total(TOTAL, 80)
    assert line.endswith("57/200 done, 2 failed, 1:12:01 of audio, RTFx 34, 1:02:05 left")
    assert line.count("\u2501") > 0


@pytest.mark.parametrize("columns", [40, 80])
def test_percent_and_time_left_are_whole_in_common_widths(columns: int) -> None:
    line = fit_line(LONG_NAME, "transcribing", 0.12, "RTFx 3.7, 2:05 left", columns)
    assert " 12 %" in line
    assert "RTFx 3.7, 2:05 left" in line


def test_percentage_is_not_rounded_up() -> None:
    assert "99 %" in fit_line("a.wav", "transcribing", 0.9999, "", 80)
    assert "29 %" in fit_line("a.wav", "transcribing", 0.29, "", 80)


def test_shortened_name_keeps_its_end_and_loses_its_folder_first() -> None:
    assert fit_line(LONG_NAME, "queued", None, "", 80).split()[0].endswith("of-three.wav")
    assert fit_line("some/very/deep/folder/call-12.wav", "queued", None, "", 80).startswith(
        "…/call-12.wav "
    )


def test_bar_is_filled_as_far_as_the_work_is_done() -> None:
    line = fit_line("a.wav", "transcribing", 0.5, "", 120)
    assert line.count("\u2501") == line.count("\u254c") > 0


def test_bar_is_shown_only_where_there_is_something_to_measure() -> None:
    assert "\u254c" not in fit_line("a.wav", "queued", None, "", 80)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.24, "8.2 s"), (48.7, "49 s"), (245, "4:05"), (3599.6, "1:00:00"), (3723, "1:02:03")],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_block_has_a_line_for_each_that_is_under_way_and_the_total(screen: Screen) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        screen.progress.show(name, "queued")
    screen.progress.leave("b.wav", "done", line=False)
    screen.progress.total(TOTAL)
    terminal = screen.read()
    assert terminal.most_up == len(("a.wav", "c.wav", "total"))


def test_block_has_room_for_the_echo_of_ctrl_c(screen: Screen) -> None:
    screen.progress.show(LONG_NAME, "transcribing", 0.5, "words " * 40)
    screen.progress.total(dataclasses.replace(TOTAL, files=10**30))
    assert screen.read().widest == 78


def test_block_leaves_nothing_behind(screen: Screen) -> None:
    screen.progress.show("a.wav", "queued")
    screen.progress.total(TOTAL)
    assert screen.read().lines() == []


def test_more_lines_than_the_terminal_has_are_counted_instead(screen: Screen) -> None:
    for number in range(60):
        screen.progress.show(f"{number}.wav", "queued")
    screen.progress.total(TOTAL)
    screen.progress.say("something")
    terminal = screen.read()
    assert terminal.most_up <= 20
    assert terminal.lines()[-1] == "something"


def test_what_ends_leaves_a_line_only_if_told_to(screen: Screen) -> None:
    screen.progress.show("a.wav", "queued")
    screen.progress.leave("a.wav", "done", line=False)
    screen.progress.show("b.wav", "queued")
    screen.progress.leave("b.wav", "failed", "it broke\nin two")
    screen.progress.show("weights", "downloading", 0.5)
    screen.progress.leave("weights", "downloading")
    lines = [line for line in screen.read().lines() if line]
    assert [line.split() for line in lines] == [
        ["b.wav", "failed", "it", "broke", "in", "two"],
        ["weights", "downloading"],
    ]


def test_plain_progress_is_one_line_per_change_of_phase(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    for fraction in (0.1, 0.2, 0.3):
        progress.show("a.wav", "transcribing", fraction)
    progress.leave("a.wav", "done", "1.0 s of audio", line=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["a.wav: transcribing", "a.wav: done (1.0 s of audio)"]


def test_plain_progress_tells_the_total_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 0.0
    progress = Progress(clock=lambda: now_s)
    for now_s in (1.0, 29.0, 30.0, 31.0, 59.0, 60.0):  # noqa: B007 - the clock reads it
        progress.total(TOTAL)
    told = capsys.readouterr().err.splitlines()
    assert (
        told
        == ["longhand: 30 %: 57/200 done, 2 failed, 1:12:01 of audio, RTFx 34, 1:02:05 left"] * 2
    )
