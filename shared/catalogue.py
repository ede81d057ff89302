"""The model catalogue: which models there are, where their weights come from, what they can do.

Read from ``models.toml`` by the API (to check requests and to list models), by the CLI (to fetch
weights) and by the workers (to load them). Nothing here imports an engine.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shared.errors import ModelError, UnknownModel, UnsupportedLanguage

EngineName = Literal["pocketsphinx", "faster-whisper", "oracle"]
VadName = Literal["silero", "energy", "off"]

ANY_LANGUAGE = "any"
"""In place of a language set: the model takes whatever code it is given."""


class DecodeDefaults(BaseModel):
    """How the model decodes; the same for every job, so that chunks of all jobs share batches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beam_size: int = Field(default=1, ge=1, description="hypotheses kept while decoding")


class Model(BaseModel):
    """One catalogue entry. Weights are pinned: equal entries transcribe alike everywhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    description: str = Field(min_length=1, description="one line for a person choosing a model")
    engine: EngineName
    source: str = Field(min_length=1, description="Hugging Face repository or Python wheel")
    revision: str = Field(min_length=1, description="commit or digest of the weights")
    languages: frozenset[str] | None = Field(description="ISO 639 codes; None: any")
    window_s: float = Field(gt=0, description="the longest chunk the model hears at once")
    vad: VadName = Field(description="voice activity detector of jobs that name none")
    decode: DecodeDefaults = DecodeDefaults()
    size_bytes: int = Field(ge=0, description="of the weights on disk")
    hidden: bool = Field(default=False, description="usable, but not offered to users")

    @field_validator("languages")
    @classmethod
    def _speaks_something(cls, languages: frozenset[str] | None) -> frozenset[str] | None:
        if languages is not None and not languages:
            raise ValueError("a model must speak at least one language")
        return languages

    @model_validator(mode="after")
    def _pins_a_commit(self) -> Self:
        commit = self.revision
        if self.engine == "faster-whisper" and not (
            len(commit) == 40 and set(commit) <= set("0123456789abcdef")
        ):
            raise ValueError("revision must be a full commit hash (a branch or tag can move)")
        return self

    def speaks(self, language: str) -> bool:
        """Whether the model knows the language, an ISO 639 code."""
        return self.languages is None or language in self.languages

    def check_language(self, language: str) -> None:
        """Refuse a language that the model does not know.

        Raises:
            UnsupportedLanguage: it does not.
        """
        if not self.speaks(language):
            known = sorted(self.languages or ())
            raise UnsupportedLanguage(
                f"model '{self.id}' does not know language '{language}'; it knows "
                + ", ".join(known)
            )


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models by id, in the file's order."""

    models: Mapping[str, Model]

    @property
    def visible(self) -> tuple[Model, ...]:
        """The models to offer to users."""
        return tuple(model for model in self.models.values() if not model.hidden)

    def get(self, model_id: str) -> Model:
        """Return a model, hidden or not.

        Raises:
            UnknownModel: there is no such id.
        """
        try:
            return self.models[model_id]
        except KeyError:
            offered = ", ".join(model.id for model in self.visible)
            raise UnknownModel(f"no model '{model_id}'; there are {offered}") from None


def load_catalogue(path: Path) -> Catalogue:
    """Read and check a catalogue file.

    Raises:
        ModelError: the file is missing, is not TOML, or an entry is wrong; the message says which.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"cannot read the catalogue {path.name}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"the catalogue {path.name} is not valid TOML: {error}") from error
    languages, entries = document.pop("languages", {}), document.pop("models", {})
    if document:
        raise ModelError(f"{path.name}: unknown table '{min(document)}'")
    if not isinstance(languages, dict) or not isinstance(entries, dict) or not entries:
        raise ModelError(f"{path.name} needs a [languages] table and at least one [models.ID]")
    return Catalogue(
        {
            model_id: _parse(path.name, model_id, entry, languages)
            for model_id, entry in entries.items()
        }
    )


def _parse(file_name: str, model_id: str, entry: object, languages: Mapping[str, Any]) -> Model:
    """Turn one [models.ID] table into a Model, its language set looked up by name."""
    where = f"{file_name}, model '{model_id}'"
    if not isinstance(entry, dict):
        raise ModelError(f"{where}: not a table")
    language_set = entry.get("languages")
    if language_set == ANY_LANGUAGE:
        spoken = None
    elif isinstance(language_set, str) and language_set in languages:
        spoken = languages[language_set]
    else:
        raise ModelError(
            f"{where}: languages must be '{ANY_LANGUAGE}' or one of {', '.join(sorted(languages))}"
        )
    try:
        return Model.model_validate({**entry, "id": model_id, "languages": spoken})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'entry'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise ModelError(f"{where}: {problems}") from error
