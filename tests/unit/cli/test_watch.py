"""When a child counts as hung."""

import threading
from collections.abc import Iterator

import pytest

from cli.embedded.watch import MISSED_LOOKS, MISSED_LOOKS_AT_START, Vitals, Watch
from harness.programs.workers import wait_until


def after(*signs: bool | None, was_up: bool = True) -> bool:
    """Whether a process counts as hung after these looks."""
    vitals = Vitals(was_up=was_up)
    for sign in signs:
        vitals.note(sign)
    return vitals.hung


def test_a_child_hangs_once_so_many_looks_in_a_row_were_missed() -> None:
    silence = [False] * (MISSED_LOOKS - 1)
    assert not after(*silence)
    assert after(*silence, False)
    assert not after(*silence, True, *silence)


def test_what_nobody_can_tell_is_not_held_against_a_child() -> None:
    assert not after(*[None] * 1000)
    assert not after(*[*[False] * (MISSED_LOOKS - 1), None] * 5)


def test_a_child_that_starts_may_be_silent_for_longer_until_it_is_up() -> None:
    silence = [False] * (MISSED_LOOKS_AT_START - 1)
    assert not after(*silence, was_up=False)
    assert after(*silence, False, was_up=False)
    assert after(True, *[False] * MISSED_LOOKS, was_up=False)


class Processes:
    """Answer looks by pid, as many as are allowed; each has been noted once the next one begins."""

    def __init__(self) -> None:
        self.up = {1: True, 2: True}
        self._allowed = threading.Semaphore(0)
        self._begun: list[int] = []

    def look(self, pid: int) -> bool:
        self._begun.append(pid)
        self._allowed.acquire()
        return self.up[pid]

    def allow(self, n_looks: int) -> None:
        """Have so many looks ended and noted; the next one has begun then, and waits."""
        expected = len(self._begun) + n_looks
        self._allowed.release(n_looks)
        wait_until(lambda: len(self._begun) == expected)

    @property
    def looked_at(self) -> int:
        """Whose look waits."""
        return self._begun[-1]

    def begin(self) -> None:
        wait_until(lambda: self._begun)

    def end(self) -> None:
        self._allowed.release(1000)


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    made.end()


@pytest.fixture
def watch(processes: Processes) -> Iterator[Watch]:
    """A watch of process 1, whose first look has begun."""
    made = Watch(processes.look, 1, every_s=0.001)
    processes.begin()
    yield made
    made.end()


def test_a_process_that_falls_silent_is_found(processes: Processes, watch: Watch) -> None:
    processes.allow(2 * MISSED_LOOKS)
    processes.up[1] = False
    processes.allow(MISSED_LOOKS - 1)
    assert not watch.finds_hung
    processes.allow(1)
    assert watch.finds_hung


def test_a_process_that_takes_the_place_of_a_silent_one_has_time_to_start(
    processes: Processes, watch: Watch
) -> None:
    processes.up = {1: False, 2: False}
    processes.allow(MISSED_LOOKS)
    watch.follow(2)
    assert not watch.finds_hung
    processes.allow(1)  # it had begun with the one before
    assert processes.looked_at == 2
    processes.allow(MISSED_LOOKS_AT_START - 1)
    assert not watch.finds_hung
    processes.allow(1)
    assert watch.finds_hung


def test_an_answer_of_the_process_before_is_none_of_the_one_that_follows(
    processes: Processes, watch: Watch
) -> None:
    processes.up = {1: True, 2: False}
    watch.follow(2)
    processes.allow(1)  # process 1 answers; were that taken for process 2, it would be up
    processes.allow(MISSED_LOOKS)
    assert not watch.finds_hung
