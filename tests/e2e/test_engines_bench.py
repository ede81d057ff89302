"""The comparison of the engines with their libraries works, with the small trained models."""

import os
import re
from pathlib import Path

import pytest

from harness.programs.forked import run

ROOT = Path(__file__).resolve().parents[2]
HELDOUT = sorted((ROOT / "tests/models/heldout").glob("*.flac"))[:4]


def rows_of(model: str, *parts: str) -> list[tuple[str, int, int]]:
    """Run some parts; return the name of each row, and the words that both sides heard."""
    command = ["engines", "--rounds", "1", "--minutes", "0.2"]
    command += ["--catalogue", "tests/models/models.toml", "--n-short", "2", "--n-chunks", "1"]
    command += [part for path in HELDOUT for part in ("--audio", str(path))]
    command += ["--model", model, "--before", str(ROOT)]
    command += [part for name in parts for part in ("--part", name)]
    done = run("bench", *command, env=os.environ, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(.+?) {2,}[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ +(\d+)/(\d+)$", done.stdout, re.M)
    return [(name.split(", ")[-1], int(ours), int(other)) for name, ours, other in rows]


@pytest.mark.timeout(600)
def test_each_comparison_says_what_both_sides_heard() -> None:
    file, short, (before, now_words, before_words) = rows_of(
        "tiny-whisper-ct2", "file", "short", "before"
    )

    assert (file[0], short[0]) == ("faster-whisper batched", "faster-whisper one by one")
    assert before == "tiny-whisper-ct2 before"
    assert min(file[1], file[2], short[1], short[2]) > 0
    assert now_words == before_words > 0


@pytest.mark.timeout(600)
def test_the_platform_is_compared_with_a_server_that_has_a_lock_on_a_file_and_on_short_files() -> (
    None
):
    rows = rows_of("tiny-whisper-ct2", "server")

    assert [name for name, _, _ in rows] == ["server with a lock"] * 2
    assert all(min(ours, other) > 0 for _, ours, other in rows)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_pipeline_of_transformers_is_compared_with_both_kinds_of_times() -> None:
    rows = rows_of("tiny-whisper", "chunks")

    assert [name for name, _, _ in rows] == [
        "pipeline by 8 with segment times",
        "pipeline by 8 with word times",
    ]
    assert all(min(ours, other) > 0 for _, ours, other in rows)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", ["tiny-conformer", "tiny-transducer"])
def test_an_onnx_model_is_compared_with_onnx_asr(model: str) -> None:
    rows = rows_of(model, "chunks", "short", "platform")

    assert [name for name, _, _ in rows] == ["onnx-asr one by one"] * 3
    assert all(ours == other > 0 for _, ours, other in rows[:2])
    # The library's windows are cut within words, so the two hear other words there.
    assert min(rows[2][1:]) > 0


def test_speech_and_models_must_be_named() -> None:
    done = run("bench", "engines", env=os.environ, cwd=ROOT)

    assert done.returncode == 1
    assert "name real speech and models" in done.stderr
