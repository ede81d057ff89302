"""How many processors an engine's calls share."""

from pathlib import Path

import pytest

from worker.engines import processors
from worker.engines.processors import n_processors, share_processors


@pytest.mark.parametrize(("n", "expected"), [(1, (1, 1)), (2, (2, 1)), (4, (4, 1)), (16, (4, 4))])
def test_few_processors_have_a_call_each_and_many_have_several_threads_a_call(
    n: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "n_processors", lambda: n)
    assert share_processors() == expected


@pytest.mark.parametrize(
    ("quota", "n"), [("max 100000", 64), ("200000 100000", 2), ("50000 100000", 1), ("damaged", 64)]
)
def test_a_containers_limit_counts(
    tmp_path: Path, quota: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    (tmp_path / "cpu.max").write_text(quota)
    assert n_processors(tmp_path / "cpu.max") == n
    assert n_processors(tmp_path / "absent") == 64
