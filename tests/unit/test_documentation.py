"""The documents say what the code does."""

import re
from pathlib import Path

import pytest

from cli.main import cli
from shared.infra.settings import Settings
from shared.models.options import AUTO_RULE, JobOptions

ROOT = Path(__file__).parent.parent.parent
ROW = re.compile(r"^\| `(LONGHAND_[A-Z_]+)` \| (.*?) \| (.*) \|$", re.MULTILINE)
ONLY_CLI = {"LONGHAND_DATA", "LONGHAND_SERVER"}


def documented() -> dict[str, tuple[str, str]]:
    rows = ROW.findall((ROOT / "docs/settings.md").read_text())
    return {name: (default, meaning) for name, default, meaning in rows}


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    fields = {f"LONGHAND_{name.upper()}" for name in Settings.model_fields}
    assert set(documented()) == fields | ONLY_CLI


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_documented_with_its_own_words_and_default(name: str) -> None:
    field = Settings.model_fields[name]
    default, meaning = documented()[f"LONGHAND_{name.upper()}"]
    assert meaning.replace("`", "") == (field.description or "").replace("`", "")
    value = field.default
    if name != "catalogue":
        plain = value.get_secret_value() if hasattr(value, "get_secret_value") else value
        assert default == f"`{plain}`"


def test_the_rule_for_a_jobs_model_is_the_same_sentence_everywhere() -> None:
    def words(text: str) -> str:
        return " ".join(text.split())

    with cli.make_context("longhand", ["transcribe"], resilient_parsing=True) as context:
        told = cli.commands["transcribe"].get_help(context)
    assert AUTO_RULE in words(told)
    assert AUTO_RULE in words((ROOT / "docs/models.md").read_text())
    assert AUTO_RULE in str(JobOptions.model_fields["model"].description)


@pytest.mark.parametrize(
    "document",
    sorted(
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("**/*.md")
        if ".venv" not in path.parts and "node_modules" not in path.parts
    ),
)
def test_every_relative_link_of_a_document_resolves(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_every_sample_that_a_document_names_exists() -> None:
    text = (ROOT / "README.md").read_text()
    samples = set(re.findall(r"samples/[\w.-]+", text))
    assert samples
    assert all((ROOT / sample).is_file() for sample in samples)
