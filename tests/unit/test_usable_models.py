"""Which models can be used on this machine, and what stands in the way of the others."""

from pathlib import Path

import pytest

from shared.models import usable
from shared.models.catalogue import Model, load_catalogue
from shared.models.usable import availability, hub_answers_once

CATALOGUE = load_catalogue(Path(__file__).parents[2] / "models.toml")


def no_hub() -> bool:
    raise AssertionError("nobody need ask the hub")


def in_folder(folder: Path) -> Model:
    model = CATALOGUE.get("whisper-base")
    return model.model_copy(update={"source": f"file:{folder}", "revision": "sha256:" + 64 * "0"})


def test_a_model_that_comes_with_its_engine_is_usable_and_nobody_asks_the_hub() -> None:
    found = availability(CATALOGUE.get("starter"), no_hub)
    assert (found.usable, found.needs_download) == (True, False)


def test_a_model_whose_engine_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.models.engine_packages.find_spec", lambda name: None)
    found = availability(CATALOGUE.get("whisper-base"), no_hub)
    assert not found.usable
    assert "requirements/run.txt" in found.reason


def test_a_model_in_a_folder_that_lacks_files_is_not_usable_and_nobody_asks_the_hub(
    tmp_path: Path,
) -> None:
    found = availability(in_folder(tmp_path), no_hub)
    assert not found.usable
    assert "folder" in found.reason


def test_a_model_that_is_not_pinned_says_how_to_pin_it() -> None:
    model = CATALOGUE.get("whisper-base").model_copy(update={"revision": "unpinned"})
    found = availability(model, no_hub)
    assert not found.usable
    assert "docs/models.md" in found.reason


@pytest.mark.parametrize("hub_answers", [True, False])
def test_a_model_of_the_hub_whose_weights_are_missing_needs_a_hub_that_answers(
    monkeypatch: pytest.MonkeyPatch, hub_answers: bool
) -> None:
    monkeypatch.setattr(usable, "cached", lambda model: None)
    found = availability(CATALOGUE.get("whisper-base"), lambda: hub_answers)
    assert (found.usable, found.needs_download) == (hub_answers, hub_answers)


def test_the_hub_is_asked_once_and_not_before_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def answers() -> bool:
        asked.append(False)
        return False

    monkeypatch.setattr("shared.models.hub.answers", answers)
    hub_answers_once.cache_clear()
    availability(CATALOGUE.get("starter"), hub_answers_once)
    assert asked == []
    assert [hub_answers_once(), hub_answers_once()] == [False, False]
    assert asked == [False]
    hub_answers_once.cache_clear()
