from pathlib import Path

import pytest

from shared.catalogue import Catalogue, load_catalogue
from shared.errors import ModelError, UnknownModel, UnsupportedLanguage

SHIPPED = Path(__file__).parents[2] / "models.toml"

GOOD = """
[languages]
english = ["en"]
none = []

[models.tiny]
description = "A model."
engine = "pocketsphinx"
source = "a wheel"
revision = "1"
languages = "english"
window_s = 15
vad = "silero"
size_bytes = 1
"""


@pytest.fixture
def shipped() -> Catalogue:
    return load_catalogue(SHIPPED)


def load_text(tmp_path: Path, text: str) -> Catalogue:
    path = tmp_path / "models.toml"
    path.write_text(text, encoding="utf-8")
    return load_catalogue(path)


def test_shipped_catalogue_offers_a_starter_and_hides_the_oracle(shipped: Catalogue) -> None:
    offered = [model.id for model in shipped.visible]

    assert offered[0] == "starter"
    assert "oracle" not in offered
    assert shipped.get("oracle").hidden


def test_unknown_model_is_answered_with_what_there_is(shipped: Catalogue) -> None:
    with pytest.raises(UnknownModel, match="no model 'nope'; there are starter, whisper-tiny") as e:
        shipped.get("nope")

    assert "oracle" not in str(e.value)


def test_model_refuses_a_language_it_does_not_know(shipped: Catalogue) -> None:
    shipped.get("starter").check_language("en")
    shipped.get("oracle").check_language("tlh")
    shipped.get("whisper-large-v3").check_language("yue")
    with pytest.raises(UnsupportedLanguage, match="'starter' does not know language 'de'"):
        shipped.get("starter").check_language("de")
    with pytest.raises(UnsupportedLanguage):
        shipped.get("whisper-small").check_language("yue")


def test_good_file_loads(tmp_path: Path) -> None:
    assert load_text(tmp_path, GOOD).get("tiny").decode.beam_size == 1


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('languages = "english"', 'languages = "klingon"', "'tiny': languages must be"),
        ('languages = "english"', 'languages = "none"', "at least one language"),
        ('"pocketsphinx"', '"sphinx"', "engine: Input should be"),
        ("window_s = 15", "window_s = 0", "window_s"),
        ("window_s = 15", "window = 15", "window: Extra inputs"),
        ('vad = "silero"', 'vad = "magic"', "vad"),
        ('"pocketsphinx"', '"faster-whisper"', "full commit hash"),
        ("[models.tiny]", "[models.Tiny]", "id"),
        ("[models.tiny]", "[model.tiny]", "unknown table 'model'"),
        ("[models.tiny]", "[models.tiny", "not valid TOML"),
    ],
)
def test_bad_file_is_refused_with_the_reason(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    assert old in GOOD
    with pytest.raises(ModelError, match=complaint.replace("[", r"\[")):
        load_text(tmp_path, GOOD.replace(old, new))


def test_missing_file_is_refused_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read the catalogue absent\.toml") as caught:
        load_catalogue(tmp_path / "absent.toml")

    assert str(tmp_path) not in str(caught.value)
