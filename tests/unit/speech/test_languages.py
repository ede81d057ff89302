"""Languages by the names that people type."""

import pytest
from pydantic import ValidationError

from shared.infra.settings import Settings
from shared.models.catalogue import load_catalogue
from shared.models.options import JobOptions
from shared.speech.text.languages import NAMES, UnknownLanguage, language_code


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("en", "en"),
        ("EN", "en"),
        ("en-US", "en"),
        ("en_GB", "en"),
        ("zh-Hant-TW", "zh"),
        (" English ", "en"),
        ("GERMAN", "de"),
        ("Haitian  Creole", "ht"),
        ("Mandarin", "zh"),
        ("lao", "lo"),
        ("jw", "jv"),
        ("haw", "haw"),
        ("xx", "xx"),
    ],
)
def test_codes_tags_and_english_names_mean_an_iso_code(typed: str, code: str) -> None:
    assert language_code(typed) == code


def test_unknown_name_gets_the_nearest_known_one() -> None:
    with pytest.raises(UnknownLanguage, match=r"'englsh'; did you mean 'english'\?$"):
        language_code("Englsh")


@pytest.mark.parametrize("typed", ["", "e", "123", "q" * 4000, "日本語"])
def test_what_is_near_no_language_is_told_what_is_expected(typed: str) -> None:
    with pytest.raises(UnknownLanguage, match=r"^expected an ISO 639 code such as 'en', or a"):
        language_code(typed)


def test_every_language_of_the_catalogue_has_a_name() -> None:
    models = load_catalogue(Settings().catalogue).models.values()
    spoken = set[str]().union(*(model.languages or () for model in models))
    assert spoken <= set(NAMES)


def test_names_are_unambiguous() -> None:
    assert len(set(NAMES.values())) == len(NAMES)
    assert all(language_code(name) == code for code, name in NAMES.items())


@pytest.mark.parametrize("typed", ["English", "en-US", "EN"])
def test_jobs_take_languages_as_people_type_them(typed: str) -> None:
    assert JobOptions.model_validate({"language": typed}).language == "en"


def test_auto_leaves_the_language_to_the_model() -> None:
    assert JobOptions.model_validate({"language": "auto"}).language is None


def test_job_with_an_unknown_language_is_told_the_nearest() -> None:
    with pytest.raises(ValidationError, match="did you mean 'english'"):
        JobOptions.model_validate({"language": "inglish"})
