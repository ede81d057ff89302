"""Which models can be used on this machine, and what stands in the way of the others."""

from pathlib import Path

import pytest

from shared.models import usable
from shared.models.catalogue import Model, load_catalogue
from shared.models.sources import Source
from shared.models.usable import Network, availability, network_once

CATALOGUE = load_catalogue(Path(__file__).parents[3] / "models.toml")


def unasked(*_: object) -> str:
    raise AssertionError("nobody need ask the network")


UNASKED = Network(lambda: bool(unasked()), unasked)


def network(*, hub_answers: bool = False, index_lacks: str = "") -> Network:
    return Network(lambda: hub_answers, lambda _: index_lacks)


def in_folder(folder: Path) -> Model:
    model = CATALOGUE.get("whisper-base")
    return model.model_copy(update={"source": f"file:{folder}", "revision": "sha256:" + 64 * "0"})


def test_a_model_that_comes_with_its_engine_is_usable_and_nobody_asks_the_hub() -> None:
    found = availability(CATALOGUE.get("starter"), UNASKED)
    assert (found.usable, found.needs_download) == (True, False)


def test_a_model_whose_engine_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.models.engine_packages.find_spec", lambda name: None)
    found = availability(CATALOGUE.get("whisper-base"), UNASKED)
    assert not found.usable
    assert "requirements/run.txt" in found.reason


def test_a_model_in_a_folder_that_lacks_files_is_not_usable_and_nobody_asks_the_hub(
    tmp_path: Path,
) -> None:
    found = availability(in_folder(tmp_path), UNASKED)
    assert not found.usable
    assert "folder" in found.reason


def test_a_model_that_is_not_pinned_says_how_to_pin_it() -> None:
    model = CATALOGUE.get("whisper-base").model_copy(update={"revision": "unpinned"})
    found = availability(model, UNASKED)
    assert not found.usable
    assert "docs/models.md" in found.reason


@pytest.mark.parametrize("hub_answers", [True, False])
def test_a_model_of_the_hub_whose_weights_are_missing_needs_a_hub_that_answers(
    monkeypatch: pytest.MonkeyPatch, hub_answers: bool
) -> None:
    monkeypatch.setattr(usable, "cached", lambda model: None)
    model = CATALOGUE.get("whisper-base")
    found = availability(model, Network(lambda: hub_answers, unasked))
    assert (found.usable, found.needs_download) == (hub_answers, hub_answers)


@pytest.mark.parametrize(
    ("reached", "usable_here", "reason"),
    [
        (network(), True, "downloaded on first use, 71 MB"),
        (network(index_lacks="no index"), False, None),
        (network(hub_answers=True, index_lacks="no index"), True, "downloaded on first use, 78 MB"),
    ],
)
def test_a_model_with_two_sources_needs_one_of_them(
    monkeypatch: pytest.MonkeyPatch, reached: Network, usable_here: bool, reason: str | None
) -> None:
    monkeypatch.setattr(usable, "cached", lambda model: None)
    found = availability(CATALOGUE.get("whisper-tiny.en"), reached)
    assert (found.usable, found.needs_download) == (usable_here, usable_here)
    assert found.reason == (
        reason or "weights (78 MB) not downloaded, and no index and the model hub does not answer"
    )


def test_hub_and_index_are_asked_once_and_not_before_they_must_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def answers() -> bool:
        asked.append("hub")
        return False

    def lacks(source: Source) -> str:
        asked.append(source.source)
        return "no index"

    monkeypatch.setattr(usable, "cached", lambda model: None)
    monkeypatch.setattr("shared.models.hub.answers", answers)
    monkeypatch.setattr("shared.models.wheels.index_lacks", lacks)
    usable.hub_answers_once.cache_clear()
    usable.index_lacks_once.cache_clear()
    availability(CATALOGUE.get("starter"), network_once())
    assert asked == []
    tiny = CATALOGUE.get("whisper-tiny.en")
    for _ in range(2):
        assert not availability(tiny, network_once()).usable
    assert asked == [tiny.source, "hub"]
    usable.hub_answers_once.cache_clear()
    usable.index_lacks_once.cache_clear()
