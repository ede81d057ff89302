"""The documents say what the code does."""

import re
from pathlib import Path

import pytest

from cli.main import cli
from docs import access_table, chart_table, dialects_table, settings_table
from harness.repository.documents import documents
from shared.infra.settings import Settings
from shared.models import AUTO_RULE
from shared.models.options import JobOptions

ROOT = Path(__file__).parents[3]


def test_the_table_of_settings_says_what_the_code_says() -> None:
    assert settings_table.PAGE.read_text() == settings_table.page(), "run `make docs`"


def test_the_tables_of_dialects_say_what_the_code_says() -> None:
    assert dialects_table.PAGE.read_text() == dialects_table.page(), "run `make docs`"


def test_the_table_of_who_sees_what_says_what_the_routes_declare() -> None:
    assert access_table.PAGE.read_text() == access_table.page(), "run `make docs`"


def test_the_table_of_the_charts_values_says_what_their_schema_says() -> None:
    assert chart_table.PAGE.read_text() == chart_table.page(), "run `make docs`"


def test_a_default_is_shown_as_the_environment_would_have_it() -> None:
    for name, field in Settings.model_fields.items():
        shown = settings_table.shown(field.default)
        if name != "catalogue":  # its path is told from where the tree is
            value = "" if shown == "empty" else shown.strip("`")
            assert getattr(Settings(**{name: value}), name) == field.default


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_has_a_meaning_that_ends_as_a_sentence(name: str) -> None:
    assert settings_table.meanings()[name].endswith(".")


def test_every_variable_that_the_command_line_reads_is_on_the_page_of_settings() -> None:
    read = {
        option.envvar
        for command in cli.commands.values()
        for option in command.params
        if isinstance(option.envvar, str)
    }
    assert {"LONGHAND_DATA", "LONGHAND_SERVER"} <= read
    rows = settings_table.PAGE.read_text().partition(settings_table.END)[2]
    assert {name for name in read if f"| `{name}` |" in rows} == read


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


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text()))
    pages = {page for page in documents() if not page.startswith("docs/adr/") and "/" in page}

    assert pages <= linked


def test_every_sample_that_a_document_names_exists() -> None:
    text = "".join((ROOT / document).read_text() for document in documents())
    samples = set(re.findall(r"samples/[\w.-]+", text))
    assert samples
    assert all((ROOT / sample).is_file() for sample in samples)


def test_each_fault_on_the_page_of_live_audio_has_tests_that_are_there() -> None:
    page = (ROOT / "docs/live.md").read_text()
    rows = re.findall(r"^\|.*`test_\w+`.*$", page, re.MULTILINE)
    files = [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("client/*/tests/test_*.py")]
    there = {
        name for file in files for name in re.findall(r"def (test_\w+)\(", file.read_text("utf-8"))
    }

    assert len(rows) == page.partition("gets wrong elsewhere")[2].count("\n| ") - 2
    assert set(re.findall(r"`(test_\w+)`", "".join(rows))) <= there
