"""The rule by which a job gets its model, case by case."""

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from shared.infra.errors import ModelNotServed, UnknownModel, UnsupportedLanguage, UnsupportedOption
from shared.models.catalogue import Catalogue, load_catalogue
from shared.models.choice import Supply, check_served, choose_model, served_supply
from shared.models.options import AUTO, JobOptions

CATALOGUE = """
auto = ["good", "rough"]

[languages]
english = ["en"]
hausa = ["ha"]
many = ["de", "en", "ha"]

[models.rough]
description = "English."
engine = "pocketsphinx"
source = "a wheel"
revision = "1"
languages = "english"
window_s = 15
vad = "silero"
size_bytes = 0

[models.large]
description = "Whisper."
engine = "faster-whisper"
source = "some/large"
revision = "0000000000000000000000000000000000000000"
languages = "many"
translates = true
window_s = 30
vad = "silero"
size_bytes = 0

[models.good]
description = "Whisper."
engine = "faster-whisper"
source = "some/good"
revision = "0000000000000000000000000000000000000000"
languages = "many"
window_s = 30
vad = "silero"
size_bytes = 0

[models.hausa]
description = "Hausa alone."
engine = "transformers-ctc"
source = "some/hausa"
revision = "0000000000000000000000000000000000000000"
languages = "hausa"
preferred_for = ["ha"]
window_s = 30
vad = "silero"
size_bytes = 0

[models.secret]
description = "Not offered."
engine = "oracle"
source = "longhand"
revision = "1"
languages = "any"
window_s = 30
vad = "off"
size_bytes = 0
hidden = true
"""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    path = tmp_path_factory.mktemp("catalogue") / "models.toml"
    path.write_text(CATALOGUE)
    return load_catalogue(path)


def supply_here(catalogue: Catalogue, default: str, usable: Collection[str]) -> Supply:
    """What a machine supplies on which these models can be used and no platform runs."""
    return Supply(
        catalogue,
        default,
        is_at_hand=lambda model: model.id in usable,
        is_served=lambda _: False,
        is_here=lambda model: model.id in usable,
        called="models that can be used here",
    )


@pytest.mark.parametrize("unnamed", [None, "", AUTO])
@pytest.mark.parametrize(
    ("asked", "default", "served", "model", "reason"),
    [
        # The preferred one of the language comes first, if it is served.
        ({"language": "ha"}, "good", {"hausa", "good"}, "hausa", "language"),
        ({"language": "ha"}, "good", {"good"}, "good", "default"),
        ({"language": "ha", "prompt": "x"}, "", {"hausa", "large"}, "large", "served"),
        ({"language": "de"}, "", {"hausa", "large"}, "large", "served"),
        # Then the operator's, served or not, unless it cannot do it.
        ({}, "large", {"good"}, "large", "default"),
        ({}, "secret", set(), "secret", "default"),
        ({"language": "de"}, "rough", {"good"}, "good", "served"),
        ({"task": "translate"}, "good", {"good", "large"}, "large", "served"),
        ({"prompt": "x"}, "rough", {"rough", "good"}, "good", "served"),
        ({"multilingual": True}, "rough", {"rough", "good"}, "good", "served"),
        # Then one that is served, the catalogue's favourite first; a hidden one never.
        ({}, "", {"large", "rough", "hausa"}, "rough", "served"),
        ({}, "", {"large", "rough", "good"}, "good", "served"),
        ({}, "", {"large", "hausa"}, "large", "served"),
        ({"language": "de"}, "", {"rough", "large"}, "large", "served"),
        # Then the best of the catalogue that can do it.
        ({}, "", {"secret"}, "good", "best"),
        ({}, "", set(), "good", "best"),
        ({"task": "translate"}, "", {"rough"}, "large", "best"),
        ({"language": "de"}, "", {"rough"}, "good", "best"),
    ],
)
def test_a_job_that_names_no_model_gets_one_by_the_rule(
    catalogue: Catalogue,
    unnamed: str | None,
    asked: dict[str, object],
    default: str,
    served: set[str],
    model: str,
    reason: str,
) -> None:
    options = JobOptions.model_validate({"model": unnamed, **asked})

    choice = choose_model(options, served_supply(catalogue, default, served))

    assert (choice.model.id, choice.reason) == (model, reason)


@pytest.mark.parametrize(
    ("asked", "default", "usable", "model", "reason"),
    [
        ({"language": "ha"}, "", {"hausa", "good"}, "hausa", "language"),
        ({"language": "ha"}, "", {"good"}, "good", "best"),
        ({}, "large", {"good"}, "large", "default"),
        ({}, "", {"large", "good", "rough"}, "good", "best"),
        ({}, "", {"large", "rough"}, "rough", "best"),
        ({"language": "de"}, "", {"large", "rough"}, "large", "best"),
    ],
)
def test_where_no_platform_runs_the_rule_goes_by_what_is_usable(
    catalogue: Catalogue,
    asked: dict[str, object],
    default: str,
    usable: set[str],
    model: str,
    reason: str,
) -> None:
    options = JobOptions.model_validate(asked)
    choice = choose_model(options, supply_here(catalogue, default, usable))
    assert (choice.model.id, choice.reason) == (model, reason)


def test_the_order_of_the_file_counts_where_the_catalogue_prefers_none(
    catalogue: Catalogue,
) -> None:
    unordered = replace(catalogue, auto=())
    choice = choose_model(JobOptions(), served_supply(unordered, "", {"good", "large"}))
    assert choice.model.id == "large"


def test_a_model_that_is_named_is_taken_or_refused_and_no_other_in_its_place(
    catalogue: Catalogue,
) -> None:
    supply = served_supply(catalogue, "good", {"good"})
    assert choose_model(JobOptions(model="secret"), supply).model.id == "secret"
    with pytest.raises(UnknownModel):
        choose_model(JobOptions(model="nonesuch"), supply)
    with pytest.raises(UnsupportedLanguage, match="'rough' does not know language 'de'"):
        choose_model(JobOptions(model="rough", language="de"), supply)
    with pytest.raises(UnsupportedOption, match="'good' cannot translate"):
        choose_model(JobOptions(model="good", task="translate"), supply)


@pytest.mark.parametrize(
    ("asked", "error", "sentence"),
    [
        (
            {"language": "de"},
            UnsupportedLanguage,
            "none of the models that can be used here knows language 'de'; those are rough",
        ),
        (
            {"task": "translate"},
            UnsupportedOption,
            "none of the models that can be used here can translate; those are rough",
        ),
        (
            {"language": "en", "hotwords": "x"},
            UnsupportedOption,
            (
                "none of the models that can be used here that knows language 'en' takes a prompt "
                "or hotwords; those are rough"
            ),
        ),
        (
            {"multilingual": True, "language": "de"},
            UnsupportedOption,
            "a multilingual job cannot name one language",
        ),
    ],
)
def test_where_no_model_is_left_the_refusal_says_why(
    catalogue: Catalogue, asked: dict[str, object], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error) as refused:
        choose_model(JobOptions.model_validate(asked), supply_here(catalogue, "", {"rough"}))
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("asked", "default", "served", "beginning"),
    [
        (
            {"model": "good"},
            "",
            {"rough", "large"},
            (
                "no worker serves 'good'; name one that is served (large, rough), start a worker "
                "for 'good', or set wait_for_worker"
            ),
        ),
        (
            {"model": "good"},
            "",
            set(),
            "no worker serves 'good', nor any other model; start a worker for 'good', or set",
        ),
        (
            {},
            "good",
            {"rough"},
            (
                "no worker serves 'good', which LONGHAND_DEFAULT_MODEL names; name one that is "
                "served (rough), start"
            ),
        ),
        (
            {"language": "de"},
            "rough",
            {"rough"},
            (
                "none of the served models knows language 'de'; those are rough; start a worker "
                "for 'good', or set"
            ),
        ),
    ],
)
def test_a_model_that_nobody_serves_is_refused_with_what_to_do(
    catalogue: Catalogue,
    asked: dict[str, object],
    default: str,
    served: set[str],
    beginning: str,
) -> None:
    options = JobOptions.model_validate(asked)
    choice = choose_model(options, served_supply(catalogue, default, served))

    with pytest.raises(ModelNotServed) as refused:
        check_served(choice, options, catalogue, served)

    assert str(refused.value).startswith(beginning)
    assert refused.value.members == {"served_models": sorted(served)}


def test_the_shipped_catalogue_prefers_models_that_it_has() -> None:
    shipped = load_catalogue(Path(__file__).parents[3] / "models.toml")
    assert [model.id for model in shipped.first_choices] == [
        "whisper-base",
        "whisper-tiny.en",
        "starter",
    ]
    assert set(shipped.ranking) == set(shipped.visible)


@pytest.mark.parametrize(
    ("asked", "usable", "model"),
    [
        ({}, {"whisper-base", "whisper-tiny.en", "starter"}, "whisper-base"),
        ({}, {"whisper-tiny.en", "starter"}, "whisper-tiny.en"),
        ({"language": "en"}, {"whisper-tiny.en", "starter"}, "whisper-tiny.en"),
        ({"prompt": "Longhand"}, {"whisper-tiny.en", "starter"}, "whisper-tiny.en"),
        ({}, {"starter"}, "starter"),
    ],
)
def test_a_newcomer_gets_the_best_that_the_machine_can_reach(
    asked: dict[str, object], usable: set[str], model: str
) -> None:
    shipped = load_catalogue(Path(__file__).parents[3] / "models.toml")
    choice = choose_model(JobOptions.model_validate(asked), supply_here(shipped, "", usable))
    assert choice.model.id == model


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ({"language": "en"}, "parakeet-tdt-0.6b-v2"),
        ({"language": "de"}, "parakeet-tdt-0.6b-v3"),
        # Whoever states no language may speak any; these models take no prompt and do not
        # translate; Japanese is not among the languages of either.
        ({}, "whisper-base"),
        ({"language": "en", "prompt": "Longhand"}, "whisper-base"),
        ({"language": "de", "task": "translate"}, "whisper-base"),
        ({"language": "ja"}, "whisper-base"),
    ],
)
def test_parakeet_goes_before_all_others_where_it_is_here_and_knows_the_language(
    asked: dict[str, object], model: str, tmp_path: Path
) -> None:
    text = (Path(__file__).parents[3] / "models.toml").read_text(encoding="utf-8")
    pinned = tmp_path / "models.toml"
    pinned.write_text(
        re.sub(r'(source = "istupakov/.*"\nrevision = )"unpinned"', rf'\1"{"a" * 40}"', text)
    )
    catalogue = load_catalogue(pinned)
    here = {"whisper-base", "parakeet-tdt-0.6b-v2", "parakeet-tdt-0.6b-v3"}
    job = JobOptions.model_validate(asked)

    assert choose_model(job, supply_here(catalogue, "", here)).model.id == model
    without = choose_model(job, supply_here(catalogue, "", {"whisper-base"}))
    assert without.model.id == "whisper-base"


def test_another_language_than_english_never_gets_a_model_for_english() -> None:
    shipped = load_catalogue(Path(__file__).parents[3] / "models.toml")
    for language in ("de", "hi"):
        with pytest.raises(UnsupportedLanguage):
            choose_model(
                JobOptions(language=language),
                supply_here(shipped, "", {"whisper-tiny.en", "starter"}),
            )
