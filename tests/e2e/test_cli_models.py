"""Real speech through the real platform, by the model that ``auto`` finds."""

import re
import socket
import subprocess
from pathlib import Path

import jiwer
import pytest
from commandline import ROOT, transcribe
from hub import running_hub
from randomwhisper import write_random_whisper

from shared.models.catalogue import load_catalogue

SAMPLES = ROOT / "samples"
MAX_WER = 0.10
"""Measured: hello.wav 0.07 (one word), weather.flac 0.06 (two), meeting.mp3 0.02 (three)."""


@pytest.fixture(scope="module")
def transcripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transcripts")


@pytest.fixture(scope="module")
def without_hub(
    transcripts: Path, tmp_path_factory: pytest.TempPathFactory
) -> subprocess.CompletedProcess[str]:
    """All samples transcribed where neither a hub nor weights are."""
    folder = tmp_path_factory.mktemp("without_hub")
    clips = [SAMPLES / name for name in ("hello.wav", "weather.flac", "meeting.mp3")]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return transcribe(
            folder / "data",
            *clips,
            *("--model", "auto", "--output", transcripts),
            HF_ENDPOINT=f"http://127.0.0.1:{unused.getsockname()[1]}",
            HF_HOME=str(folder / "cache"),
        )


def words(text: str) -> str:
    return re.sub(r"[^\w ]", "", " ".join(text.lower().split()))


def test_without_a_hub_auto_says_that_accuracy_is_low(
    without_hub: subprocess.CompletedProcess[str],
) -> None:
    assert without_hub.returncode == 0, without_hub.stderr
    assert "LOW ACCURACY. Using 'starter'" in without_hub.stderr


@pytest.mark.parametrize("sample", ["hello", "weather", "meeting"])
def test_starter_understands_the_samples(
    without_hub: subprocess.CompletedProcess[str], transcripts: Path, sample: str
) -> None:
    reference = words((SAMPLES / f"{sample}.txt").read_text())
    heard = words((transcripts / f"{sample}.txt").read_text())
    assert jiwer.wer(reference, heard) <= MAX_WER, heard


def test_auto_downloads_whisper_base_and_transcribes_with_it(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    languages = load_catalogue(ROOT / "models.toml").models["whisper-base"].languages
    write_random_whisper(weights, languages or ())
    with running_hub({path.name: path.read_bytes() for path in weights.iterdir()}) as hub:
        done = transcribe(
            tmp_path / "data",
            SAMPLES / "hello.wav",
            *("--model", "auto"),
            HF_ENDPOINT=hub.url,
            HF_HOME=str(tmp_path / "cache"),
        )
    assert done.returncode == 0, done.stderr
    assert "whisper-base: downloading" in done.stderr
    assert "LOW ACCURACY" not in done.stderr
    # Random weights say made-up words: of that vocabulary, and of no other model's.
    assert re.search(r"\bw\d{3}\b", done.stdout)
