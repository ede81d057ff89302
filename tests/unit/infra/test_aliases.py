"""Variables of other services that stand for settings."""

import pytest

from shared.infra.aliases import ALIASES
from shared.infra.settings import Settings


@pytest.fixture(autouse=True)
def none_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*ALIASES, *(f"LONGHAND_{alias.setting.upper()}" for alias in ALIASES.values())]:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variable", "value", "setting", "expected"),
    [
        ("ASR_DEVICE", "cuda:0", "device", "cuda"),
        ("STT_COMPUTE_TYPE", "int8_float16", "dtype", "int8_float16"),
        ("ASR_BATCH_SIZE", "16", "max_batch", 16),
        ("ASR_MODEL_ID", "openai/whisper-base", "default_model", "openai/whisper-base"),
        ("STT_LOG_LEVEL", "info", "log_level", "INFO"),
        ("PORT", " 8080 ", "listen_port", 8080),
        ("STT_HOST", "0.0.0.0", "listen_host", "0.0.0.0"),
        ("MAX_CONCURRENCY", "4", "max_calls", 4),
    ],
)
def test_a_variable_of_another_service_is_the_setting_that_it_stands_for(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, setting: str, expected: object
) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(Settings(), setting) == expected


def test_our_own_variable_goes_first_and_arguments_before_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASR_DEVICE", "cpu")
    monkeypatch.setenv("LONGHAND_DEVICE", "cuda")
    assert Settings().device == "cuda"
    assert Settings(device="auto").device == "auto"


@pytest.mark.parametrize("variable", ["PORT", "STT_PORT"])
def test_an_address_that_kubernetes_gives_a_pod_is_no_port(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "tcp://10.96.0.7:8000")
    assert Settings().listen_port == 8000


def test_an_empty_variable_stands_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    assert Settings().listen_port == 8000


def test_a_value_that_the_setting_does_not_have_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASR_COMPUTE_TYPE", "float17")
    with pytest.raises(ValueError, match="dtype"):
        Settings()
