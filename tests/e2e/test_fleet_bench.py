"""How busy many model workers are kept, and what a job costs, is measured as the page says."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bench.fleet.costs import Costs
from harness.programs.forked import run

ROOT = Path(__file__).resolve().parents[2]


def measured() -> dict[str, list[float]]:
    """Run the bench; return its numbers by row."""
    options = ("--part", "fleet", "--workers", "2", "--batch-s", "0.5", "--fleet-s", "4")
    done = run("bench", "fleet", *options, env=os.environ, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr
    return {
        found[1]: [float(cell) for cell in found[2].split()]
        for line in done.stdout.splitlines()
        if (found := re.fullmatch(r" *(\S.*?)((?: {2,}-?[\d.]+)+)", line))
    }


def is_disturbed(rows: Mapping[str, Sequence[float]]) -> bool:
    """Whether a worker, or Postgres, stood still for much of the time: not each time.

    Or an idle worker took less time than the system counts.
    """
    least, *_ = rows["of a worker: least, median, most"]
    _, per_call = rows["chunks: a second, in a call"]
    _, idle = rows["model workers"]
    return least == 0 or idle == 0 or not 1 <= per_call < 8


@pytest.mark.timeout(600)
def test_workers_that_sleep_are_watched_while_they_are_idle_and_busy() -> None:
    rows = measured()
    for _ in range(2):
        if not is_disturbed(rows):
            break
        rows = measured()
    (share,) = rows["share of their time in the engine"]
    assert 0 < share <= 1.2, "calls that end within the time have begun before it"
    least, _, most = rows["of a worker: least, median, most"]
    assert 0 < least <= share <= most, "both workers had work"
    _, per_call = rows["chunks: a second, in a call"]
    assert 1 <= per_call < 8, "four, but for those that were under way as the time began or ended"
    assert rows["claims"][0] > 0
    assert rows["completions of chunks"][0] > 0
    assert rows["that still waited at the end"][0] > 0
    busy, idle = rows["rows updated a second"]
    assert busy > idle
    busy, idle = rows["model workers"]
    assert busy > idle > 0


def test_one_more_chunk_costs_by_how_much_a_longer_job_costs_more() -> None:
    jobs = [{"rows": 7.0}, {"rows": 58.0}, {"rows": 290.0}]

    costs = Costs(jobs, [1, 24, 140], chunk_s=29.7, idle={})

    assert costs.of_chunk("rows") == 2.0
