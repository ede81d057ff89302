"""How many processors an engine's calls share."""

from pathlib import Path

import pytest

from worker.engines import processors
from worker.engines.processors import (
    CallsUnderWay,
    multiplies_bfloat16,
    n_processors,
    share_processors,
)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, (1, 1, 1)), (2, (2, 1, 2)), (4, (4, 1, 4)), (16, (4, 4, 8)), (64, (4, 16, 16))],
)
def test_few_processors_have_a_call_each_and_many_have_several_threads_a_call(
    n: int, expected: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
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


def test_a_call_is_alone_if_none_is_under_way_as_it_begins() -> None:
    calls = CallsUnderWay()

    with calls.begin() as first, calls.begin() as second:
        pass
    with calls.begin() as third:
        pass

    assert (first, second, third) == (True, False, True)


@pytest.mark.parametrize(
    ("flags", "expected"), [("avx512_bf16 amx_bf16 amx_tile", True), ("avx512_bf16", False)]
)
def test_amx_is_found_among_the_processors_flags(
    tmp_path: Path, flags: str, expected: bool
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu {flags} sse\n")

    assert multiplies_bfloat16(cpuinfo) is expected
    assert not multiplies_bfloat16(tmp_path / "absent")
