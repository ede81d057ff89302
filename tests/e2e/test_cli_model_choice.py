"""Which model the command line takes, and how it says that there is none."""

import subprocess
from pathlib import Path

import pytest

from harness.peers.package_index import NO_INDEX
from harness.programs.command_line import ENV, OWN_CATALOGUE, write_words
from harness.programs.forked import run

NO_NETWORK = {"HF_ENDPOINT": "http://127.0.0.1:9"} | NO_INDEX


def longhand(
    folder: Path, *arguments: str | Path, program: str = "cli.main", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line, forked, where there are no weights, no hub and no package index."""
    here = {"HF_HOME": str(folder / "cache"), "LONGHAND_MODELS_CACHE": str(folder / "weights")}
    env = ENV | NO_NETWORK | here | variables
    return run(program, *map(str, arguments), cwd=folder, env=env)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.splitlines()[-1]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_words(tmp_path / "clip.wav", [1, 2, 3])


def test_the_list_says_what_auto_is_and_why(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        OWN_CATALOGUE.replace('"oracle"', '"oracle"\npreferred_for = ["en"]')
    )

    own = longhand(tmp_path, "models", LONGHAND_CATALOGUE="own.toml")
    shipped = longhand(tmp_path, "models")
    chosen = longhand(tmp_path, "models", LONGHAND_DEFAULT_MODEL="whisper-tiny")

    assert own.returncode == shipped.returncode == chosen.returncode == 0
    assert (
        "'auto' is tones now: the best that can be used here; small-whisper is better, but cannot "
        "be used." in own.stdout
    )
    assert "For language 'en' it is tones, preferred for it." in own.stdout
    assert (
        "'auto' is starter now: the best that can be used here; whisper-base is" in shipped.stdout
    )
    assert (
        "'auto' is whisper-tiny now: LONGHAND_DEFAULT_MODEL names it, but it cannot be used here: "
        "weights" in chosen.stdout
    )


@pytest.mark.parametrize("command", ["transcribe", "up"])
def test_a_default_that_cannot_be_used_is_told_with_the_setting(
    tmp_path: Path, clip: Path, command: str
) -> None:
    arguments = [clip] if command == "transcribe" else ["--port", "0"]
    done = longhand(
        tmp_path,
        *(command, *arguments, "--data", tmp_path / "data"),
        LONGHAND_DEFAULT_MODEL="whisper-tiny",
    )
    assert done.returncode == 1
    assert last_line(done).startswith(
        "longhand: error: LONGHAND_DEFAULT_MODEL: model 'whisper-tiny' cannot be used here: weights"
    )


def test_a_language_that_no_usable_model_knows_is_refused_before_anything_starts(
    tmp_path: Path, clip: Path
) -> None:
    data = tmp_path / "data"
    done = longhand(tmp_path, "transcribe", clip, "--language", "de", "--data", data)
    assert done.returncode == 1
    assert last_line(done) == (
        "longhand: error: none of the models that can be used here knows language 'de'; those are "
        "starter"
    )
    assert "starting the platform" not in done.stderr


PROCESSES = {
    "api": ("api", "--port", "0"),
    "cpu": ("worker", "cpu"),
    "model": ("worker", "model", "--model", "oracle"),
    "deliver": ("worker", "deliver"),
    "beat": ("worker", "beat"),
    "fetch": ("worker", "fetch", "--model", "oracle"),
}


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "cannot read the catalogue own.toml: No such file or directory"),
        ("[models", "the catalogue own.toml is not valid TOML: "),
    ],
)
def test_a_catalogue_that_is_missing_or_wrong_is_one_sentence_of_every_service(
    tmp_path: Path, process: str, text: str | None, complaint: str
) -> None:
    if text is not None:
        (tmp_path / "own.toml").write_text(text)
    program, *arguments = PROCESSES[process]
    done = longhand(tmp_path, *arguments, program=program, LONGHAND_CATALOGUE="own.toml")
    assert done.returncode == 1
    assert last_line(done).startswith(f"Error: {complaint}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["transcribe", "up", "models"])
def test_a_catalogue_that_is_missing_is_one_sentence_of_every_command(
    tmp_path: Path, clip: Path, command: str
) -> None:
    arguments = {"transcribe": [clip], "up": ["--port", "0"], "models": []}[command]
    data = [] if command == "models" else ["--data", tmp_path / "data"]
    done = longhand(tmp_path, command, *arguments, *data, LONGHAND_CATALOGUE="own.toml")
    assert done.returncode == 1
    assert done.stderr == (
        "longhand: error: cannot read the catalogue own.toml: No such file or directory\n"
    )


@pytest.mark.parametrize("command", ["up", "api"])
def test_a_model_on_demand_that_there_is_not_is_told_at_the_start(
    tmp_path: Path, command: str
) -> None:
    program, *arguments = PROCESSES["api"]
    if command == "up":
        program, arguments = "cli.main", ["up", "--port", "0", "--data", str(tmp_path / "data")]
    done = longhand(tmp_path, *arguments, program=program, LONGHAND_ON_DEMAND_MODELS="starter,nope")
    assert done.returncode == 1
    assert "rror: LONGHAND_ON_DEMAND_MODELS: no model 'nope'; there are starter" in last_line(done)
    assert "Traceback" not in done.stderr
