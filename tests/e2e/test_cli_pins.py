"""``longhand models pin``: the newest commit of a repository, or the digest of a folder."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.peers.hub import Hub, running_hub
from harness.peers.package_index import NO_INDEX
from harness.programs.command_line import ENV
from harness.programs.forked import run

CATALOGUE = """
[languages]
english = ["en"]

[models.speech]
description = "On the hub."
engine = "transformers-ctc"
source = "some/speech"
revision = "unpinned"
languages = "english"
window_s = 20
vad = "silero"
size_bytes = 1

[models.mine]
description = "In a folder."
engine = "onnx-ctc"
source = "file:mine"
revision = "unpinned"
languages = "english"
window_s = 20
vad = "silero"
size_bytes = 1

[models.voices]
kind = "diarization"
description = "In folders of a folder."
engine = "pyannote-community-1"
source = "file:voices"
revision = "unpinned"
size_bytes = 1

[models.fixed]
description = "Pinned."
engine = "faster-whisper"
source = "some/whisper"
revision = "0000000000000000000000000000000000000000"
languages = "english"
window_s = 30
vad = "silero"
size_bytes = 1
"""
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"w" * 5_000,
    "preprocessor_config.json": b"{}",
    "vocab.json": b"{}",
    "README.md": b"",
    "optimizer.bin": b"not needed",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub(FILES) as hub:
        hub.facts = {"cardData": {"license": "cc-by-nc-4.0"}, "gated": False}
        yield hub


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "own.toml").write_text(CATALOGUE)
    return tmp_path


def models(site: Path, hub_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    here = {
        "LONGHAND_CATALOGUE": "own.toml",
        "HF_ENDPOINT": hub_url,
        "HF_HOME": str(site / "cache"),
        "HF_TOKEN": "hf_secret",
    }
    return run("cli.main", "models", *arguments, cwd=site, env=ENV | NO_INDEX | here)


def test_newest_commit_is_shown_and_pinned_and_nothing_is_fetched(site: Path, hub: Hub) -> None:
    assert "its revision is" in models(site, hub.url).stdout

    done = models(site, hub.url, "pin", "speech")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"some/speech at {'f' * 40}\n"
        "licence: cc-by-nc-4.0\n"
        "              2  config.json\n"
        "          5,000  model.safetensors\n"
        "              2  preprocessor_config.json\n"
        "              2  vocab.json\n"
        "          5,006  bytes in 4 files\n"
        "speech is pinned in own.lock.toml; 'longhand transcribe --model speech' fetches it.\n"
    )
    assert set(hub.asked) == {"/", "/api/models/some/speech"}
    assert set(hub.tokens) == {None}
    listed = models(site, hub.url).stdout
    assert f"{'speech':<29} yes  downloaded on first use" in listed

    hub.newest = "e" * 40
    assert f"some/speech at {'e' * 40}" in models(site, hub.url, "pin", "speech").stdout
    assert "e" * 40 in (site / "own.lock.toml").read_text()


def test_a_model_that_tells_speakers_apart_is_pinned_by_files_in_folders(site: Path) -> None:
    (site / "voices/plda").mkdir(parents=True)
    (site / "voices/plda/plda.npz").write_text("p")
    refused = models(site, "http://127.0.0.1:9", "pin", "voices")
    assert refused.stderr == (
        "longhand: error: the folder of model 'voices' has no segmentation/pytorch_model.bin, "
        "embedding/pytorch_model.bin, plda/xvec_transform.npz\n"
    )
    for name in ("segmentation/pytorch_model.bin", "embedding/pytorch_model.bin"):
        (site / "voices" / name).parent.mkdir()
        (site / "voices" / name).write_text("w")
    (site / "voices/plda/xvec_transform.npz").write_text("x")

    done = models(site, "http://127.0.0.1:9", "pin", "voices")

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("voices is pinned in own.lock.toml; it can be used now.\n")
    assert f"{'voices':<29} yes  ready" in models(site, "http://127.0.0.1:9").stdout


def test_a_folder_is_pinned_by_the_digest_of_its_files(site: Path) -> None:
    refused = models(site, "http://127.0.0.1:9", "pin", "mine")
    assert refused.stderr == (
        "longhand: error: the folder that the catalogue names for model 'mine' is not there\n"
    )
    (site / "mine").mkdir()
    for name in ("config.json", "model.onnx", "vocab.txt"):
        (site / "mine" / name).write_text("{}")

    done = models(site, "http://127.0.0.1:9", "pin", "mine")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("file:mine at sha256:")
    assert done.stdout.endswith("mine is pinned in own.lock.toml; it can be used now.\n")
    assert f"{'mine':<29} yes  ready" in models(site, "http://127.0.0.1:9").stdout


@pytest.mark.parametrize(
    ("refusal", "facts", "complaint"),
    [
        ((404, "RepoNotFound"), {}, "the hub has no public repository some/speech"),
        ((401, "RepoNotFound"), {}, "the hub has no public repository some/speech"),
        ((401, "GatedRepo"), {}, "some/speech is gated: it is given to those who have agreed"),
        ((403, "GatedRepo"), {}, "some/speech is gated: it is given to those who have agreed"),
        (None, {"gated": "manual"}, "some/speech is gated: it is given to those who have agreed"),
        ((403, ""), {}, "the hub refuses to show some/speech (403)"),
        ((500, ""), {}, "the hub cannot tell about some/speech (500)"),
    ],
)
def test_a_repository_that_is_not_for_everybody_is_one_sentence(
    site: Path,
    hub: Hub,
    refusal: tuple[int, str] | None,
    facts: dict[str, object],
    complaint: str,
) -> None:
    hub.refusal = refusal
    hub.facts |= facts

    done = models(site, hub.url, "pin", "speech")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"longhand: error: {complaint}")
    assert done.stderr.count("\n") == 1
    assert not (site / "own.lock.toml").exists()


def test_weights_that_are_pickles_are_refused(site: Path, hub: Hub) -> None:
    hub.files["pytorch_model.bin"] = hub.files.pop("model.safetensors")

    done = models(site, hub.url, "pin", "speech")

    assert done.returncode == 1
    assert done.stderr == (
        "longhand: error: some/speech has no model.safetensors or model.safetensors.index.json: "
        "its weights are pickles, which are never read\n"
    )


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("speech", "the model hub does not answer"),
        ("nope", "no model 'nope'; there are fixed"),
        ("fixed", "the catalogue itself pins model 'fixed'; only revisions"),
    ],
)
def test_what_cannot_be_pinned_is_one_sentence(site: Path, model: str, complaint: str) -> None:
    done = models(site, "http://127.0.0.1:9", "pin", model)

    assert done.returncode == 1
    assert done.stderr.startswith(f"longhand: error: {complaint}")
    assert done.stderr.count("\n") == 1
