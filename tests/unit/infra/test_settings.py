"""Settings are read from the environment, and what is wrong there is told in one line."""

import subprocess
import sys

import pytest

from shared.infra.errors import InvalidSetting
from shared.infra.settings import Settings, get_settings

WRONG = {
    "LONGHAND_LEASE_S": ("soon", "should be a valid number"),
    "LONGHAND_DATABASE_URL": ("postgresql://me:hush@db/longhand", r"must be postgresql\+psycopg"),
    "LONGHAND_BROKER_URL": ("amqp://longhand:hush@mq", r"must be redis\(s\)://"),
    "LONGHAND_STORAGE_URL": ("http://key:hush@127.0.0.1:9000", r"must be http\(s\)://"),
    "LONGHAND_AUTH": ("hush", "should be"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_told_by_its_name_and_without_its_value(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, told = WRONG[name]
    monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    with pytest.raises(InvalidSetting, match=f"^{name}: .*{told}") as raised:
        get_settings()
    get_settings.cache_clear()
    assert "hush" not in str(raised.value)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    default = Settings.model_fields["lease_s"].default
    monkeypatch.setenv("LONGHAND_LEASE_S", "")
    assert Settings().lease_s == default


@pytest.mark.parametrize(
    "command",
    [["-m", "api"], ["-m", "worker", "beat"], ["-m", "cli.main", "models"]],
    ids=["api", "worker", "command line"],
)
def test_no_program_shows_a_traceback_of_it(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        env={"LONGHAND_LEASE_S": "soon", "PYTHONPATH": ".:sdk"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "LONGHAND_LEASE_S" in line
