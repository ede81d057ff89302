"""The measurements that wait for a GPU work on a processor."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.gpu import sentences
from bench.gpu.__main__ import PARTS
from bench.gpu.parts import PART_FUNCTIONS
from bench.gpu.shapes import LARGE_V3, TURBO, W2V_BERT
from bench.speech import heldout

ROOT = Path(__file__).resolve().parents[2]


def run(out: Path, *options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [ROOT / "bench/gpu/run.sh", "--dry", *options],
        env={
            **os.environ,
            "OUT": str(out),
            "PYTHON": sys.executable,
            "PACK": str(out / "no pack"),
            # On few cores, threads that wait busily are in each other's way.
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)
def test_every_part_runs_and_says_what_it_measured(tmp_path: Path) -> None:
    done = run(tmp_path)

    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: part["state"] for name, part in report["parts"].items()} == dict.fromkeys(
        PARTS, "done"
    )
    assert report["machine"]["float32_tflops"] > 0
    rows = report["rows"]
    assert {row["part"] for row in rows} == set(PARTS) - {"machine"}
    assert [row["ok"] for row in rows if row["part"] == "words"] == [True, True]
    speeds = [row for row in rows if "rtfx" in row]
    assert {row["part"] for row in speeds} >= {"large-v3", "turbo", "feeding", "w2v-bert"}
    assert all(row["rtfx"] > 0 and row["batch"] >= 1 for row in speeds)
    # The random Whispers end after their tokens, at the first attempt.
    decoded = [row["note"] for row in speeds if row["part"] in ("large-v3", "turbo", "compiled")]
    assert all(note.endswith(", 12 tokens") for note in decoded), decoded
    (squeezed,) = [row for row in rows if row["case"].startswith("memory taken away")]
    assert "; 0 of " in squeezed["note"]
    # Two do not fit, then one does at a time, then two again.
    assert squeezed["calls"][0] == [2, False]
    assert [1, True] in squeezed["calls"]
    assert squeezed["calls"][-1] == [2, True]
    table = (tmp_path / "gpu.md").read_text().splitlines()
    assert len(table) == 2 + 2 + len(rows)
    assert {line.count("|") for line in table[2:]} == {table[2].count("|")}


def test_a_run_that_is_out_of_time_leaves_whole_files(tmp_path: Path) -> None:
    done = run(tmp_path, "--limit-s", "2", "--only", "machine", "turbo")

    assert done.returncode == 1
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert {part["state"] for part in report["parts"].values()} <= {"done", "out of time"}
    assert report["parts"]["turbo"]["state"] == "out of time"
    assert "| turbo |" in (tmp_path / "gpu.md").read_text()


def test_a_run_that_is_killed_leaves_whole_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.gpu", "--dry", "--out", tmp_path, "--pack", tmp_path]
    with subprocess.Popen(
        [*command, "--only", "machine", "turbo"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "turbo: loading" in line:
                break
        os.killpg(running.pid, signal.SIGKILL)

    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["parts"]["turbo"] == {"state": "ended"}
    assert report["rows"][0]["case"] == "loading"
    assert "| turbo | loading |" in (tmp_path / "gpu.md").read_text()


def test_a_part_that_fails_costs_no_other(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / sentences.FILE).write_bytes(b"not an archive")

    done = run(tmp_path, "--only", "words", "machine", PACK=str(pack))

    assert done.returncode == 1
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert {name: part["state"] for name, part in parts.items()} == {
        "words": "failed",
        "machine": "done",
    }
    assert parts["words"]["error"]


def test_every_part_has_its_time() -> None:
    assert list(PARTS) == list(PART_FUNCTIONS)


def test_packed_sentences_are_those_that_were_decoded(tmp_path: Path) -> None:
    sentences.write(tmp_path)

    packed = sentences.load(tmp_path)

    assert list(packed) == [clip.text for clip in heldout()]
    for clip in heldout():
        assert np.array_equal(packed[clip.text], clip.samples)


def test_wheels_are_those_that_the_tests_run_with() -> None:
    pinned = set(re.findall(r"^[a-z0-9-]+==\S+", (ROOT / "requirements/dev.txt").read_text(), re.M))
    lines = (ROOT / "bench/gpu/wheels.txt").read_text().splitlines()
    wheels = [line for line in lines if not line.startswith("#")]

    assert wheels
    assert set(wheels) <= pinned


@pytest.mark.parametrize(
    ("shape", "seconds", "parameters"),
    [(LARGE_V3, 30, 1.54e9), (TURBO, 30, 0.81e9), (W2V_BERT, 20, 0.58e9)],
)
def test_operations_are_of_the_order_of_the_parameters(
    shape: object, seconds: float, parameters: float
) -> None:
    """Two for each parameter that a frame or token meets; attention adds to it."""
    positions = {LARGE_V3: (1_500, 123), TURBO: (1_500, 123), W2V_BERT: (1_000, 0)}[shape]
    most = 2 * parameters * sum(positions)

    assert 0.4 * most < shape.flops(seconds) < 1.6 * most
