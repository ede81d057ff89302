"""What a job costs is counted where it arrives: at Postgres, Redis and the S3 server."""

import os
import re
from pathlib import Path

import pytest

from harness.programs.forked import run

ROOT = Path(__file__).resolve().parents[2]


def rows_of(part: str, *options: str) -> dict[str, dict[str, float]]:
    """Run one part of ``bench cost``; return its numbers by row and sub-row, '' for the row."""
    done = run("bench", "cost", "--part", part, *options, env=os.environ, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr
    rows: dict[str, dict[str, float]] = {}
    for line in done.stdout.splitlines():
        if found := re.fullmatch(r"( *)(\S.*?) +(-?[\d.]+)", line):
            indent, what, number = found.groups()
            if not indent:
                row = rows[what] = {}
            row["" if not indent else what] = float(number)
    return rows


@pytest.mark.timeout(600)
def test_requests_of_a_job_are_counted_by_service(tmp_path: Path) -> None:
    listing = tmp_path / "statements.txt"

    rows = rows_of("counts", "--counted-jobs", "3", "--statements", str(listing))

    statements = rows["SQL statements a job, median"]
    assert statements.keys() >= {"api", "worker-cpu", "worker-oracle"}
    assert statements.pop("mean") > 0
    assert statements.pop("") == pytest.approx(sum(statements.values()))
    assert statements["api"] >= rows["SQL transactions a job, median"]["api"] >= 1
    requests = rows["S3 requests a job, median"]
    assert requests["api"] >= 1, "the API stores the upload"
    assert requests["PUT"] >= 1
    assert requests["GET range"] == 1, "a short file is read once"
    assert rows["Redis commands a job, median"]["lpush"] >= 1, "a message wakes a worker"
    assert re.search(r"-- api, .*\n(.*\n)*? +1\.00  .*INSERT INTO jobs ", listing.read_text())


@pytest.mark.timeout(600)
def test_chunks_are_counted_while_four_workers_transcribe_them() -> None:
    rows = rows_of("chunks", "--chunks", "40")

    (row,) = (row for what, row in rows.items() if what.startswith("chunks a second"))
    assert row[""] > 0
