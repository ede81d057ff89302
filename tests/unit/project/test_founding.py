"""What docs/founding.md says of other services' names is so."""

import ast
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from starlette.routing import Match

from api.app import create_app
from cli.embedded.servers import Endpoints
from cli.embedded.services import service_environment
from docs import founding_table
from docs.founding_kinds import (
    Exposed,
    FormField,
    Kind,
    LanguageName,
    Member,
    ModelName,
    Name,
    Route,
    Setting,
    Shown,
    Spoken,
    Variable,
    Verdict,
)
from docs.founding_names import SERVICES
from docs.founding_table import spoken_words
from shared.infra.aliases import ALIASES
from shared.infra.settings import Settings
from shared.models.catalogue import load_catalogue
from shared.speech.text.languages import language_code

ROOT = Path(__file__).parents[3]

VALUES = {
    "ASR_MODEL_ID": ("openai/whisper-base", "openai/whisper-base"),
    "ASR_DEVICE": ("cuda:0", "cuda"),
    "ASR_COMPUTE_TYPE": ("float16", "float16"),
    "ASR_BATCH_SIZE": ("16", 16),
    "ASR_CACHE_DIR": ("/tmp/asr_cache", "/tmp/asr_cache"),
    "PORT": ("8010", 8010),
    "MAX_CONCURRENCY": ("4", 4),
    "STT_HOST": ("0.0.0.0", "0.0.0.0"),
    "STT_PORT": ("8011", 8011),
    "STT_WHISPER_MODEL": ("distil-large-v3", "distil-large-v3"),
    "STT_COMPUTE_TYPE": ("int8_float16", "int8_float16"),
    "STT_DEVICE": ("cuda", "cuda"),
    "STT_LOG_LEVEL": ("debug", "DEBUG"),
    "STT_MAX_SESSIONS": ("12", 12),
    "STT_LANGUAGE": ("pt", "pt"),
    "STT_VAD_ENABLED": ("false", False),
    "STT_VAD_THRESHOLD": ("0.4", 0.4),
    "STT_VAD_MIN_SPEECH_MS": ("251", 251.0),
    "STT_VAD_MIN_SILENCE_MS": ("501", 501.0),
    "STT_PARTIAL_INTERVAL_MS": ("301", 301.0),
    "STT_MAX_PARTIAL_WINDOW_S": ("7", 7.0),
    "STT_MAX_UTTERANCE_S": ("29", 29.0),
    "STT_MAX_BUFFER_MS": ("5001", 5001.0),
    "STT_MAX_QUEUE_DEPTH": ("21", 21),
    "STT_MAX_ESTIMATED_SERVER_TOTAL_MS": ("501", 501.0),
}
"""By variable: a value that is nobody's default, and the setting that it makes."""

NAMES = [
    pytest.param(name, id=f"{service.title}: {name.kind} {name.name}".replace("[", "("))
    for service in SERVICES
    for name in service.names
]
PROVEN = [each for each in NAMES if each.values[0].proof is not None]


@cache
def app() -> Any:
    return create_app(Settings())


@cache
def document() -> dict[str, Any]:
    described: dict[str, Any] = app().openapi()
    return described


def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def has_route(method: str, path: str) -> bool:
    """Whether the application would serve such a request."""
    kind = {"type": "websocket"} if method == "WS" else {"type": "http", "method": method}
    scope = {**kind, "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in app().routes)


def test_the_page_says_what_the_list_says() -> None:
    assert founding_table.PAGE.read_text() == founding_table.page(), "run `make docs`"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_proven_or_its_absence_is_explained(name: Name) -> None:
    if name.verdict is Verdict.LEFT_OUT:
        assert name.proof is None
        assert len(name.says) > 20
        assert name.name not in ALIASES
    else:
        assert name.proof is not None
    if name.verdict is Verdict.ALIASED:
        assert name.says, "it says what it is called here"


@pytest.mark.parametrize("name", PROVEN)
def test_a_name_is_here_as_the_page_says(name: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    match name.proof:
        case Route(method, path):
            assert has_route(method, path)
        case Member(schema, member):
            assert member in document()["components"]["schemas"][schema]["properties"]
        case FormField(field):
            body = document()["paths"]["/transcribe"]["post"]["requestBody"]["content"]
            assert field in body["multipart/form-data"]["schema"]["properties"]
        case Exposed(metric):
            told = generate_latest(app().state.registry).decode().splitlines()
            assert any(line.startswith(f"# HELP {metric} ") for line in told)
        case Variable(variable):
            for alias in ALIASES:
                monkeypatch.delenv(alias, raising=False)
            value, expected = VALUES[variable]
            setting = ALIASES[variable].setting
            monkeypatch.delenv(f"LONGHAND_{setting.upper()}", raising=False)
            assert Settings.model_fields[setting].default != expected
            monkeypatch.setenv(variable, value)
            assert getattr(Settings(), setting) == expected
            assert f"LONGHAND_{setting.upper()}" in name.says
        case Setting(setting):
            assert setting in Settings.model_fields
            assert f"LONGHAND_{setting.upper()}" in name.says
        case ModelName(called, model):
            assert load_catalogue(Settings().catalogue).entry(called).id == model
            assert called == name.name
        case LanguageName(called, code):
            assert language_code(called) == code
        case Shown(file, test):
            assert test in functions(file)
        case Spoken(word, path):
            assert has_route("WS", path)
            assert word in spoken_words(path)
        case _:
            pytest.fail(f"nothing checks {name.proof}")


def test_every_variable_that_stands_for_a_setting_is_on_the_page() -> None:
    listed = {name.name for service in SERVICES for name in service.names}
    assert ALIASES.keys() <= listed
    assert VALUES.keys() == ALIASES.keys()


def test_a_name_is_told_once_for_each_service_and_kind() -> None:
    for service in SERVICES:
        told = [
            (name.kind, name.name, name.proof)
            for name in service.names
            if name.kind is not Kind.FIELD or not isinstance(name.proof, Spoken)
        ]
        assert len(told) == len(set(told))


def test_a_variable_of_torch_reaches_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    endpoints = Endpoints(*["postgresql://x"] * 3, "redis://x", "http://x")
    assert service_environment(endpoints)["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
