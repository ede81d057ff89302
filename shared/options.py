"""What a client may ask of a job, checked against the catalogue."""

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from shared.catalogue import Catalogue

AUTO = "auto"
"""Stands for the platform's default model."""
_LANGUAGE_CODE = "^[a-z]{2,3}$"


class JobOptions(BaseModel):
    """The options of ``POST /jobs``; all of them optional."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(default=None, description="catalogue id; omitted or 'auto': default")
    language: str | None = Field(
        default=None,
        pattern=_LANGUAGE_CODE,
        description="ISO 639 code of the speech; omitted: the model detects it",
    )
    vad: Literal["silero", "energy", "off"] | None = Field(
        default=None, description="voice activity detector; omitted: the model's own"
    )

    @field_validator("language", mode="before")
    @classmethod
    def _is_a_language_code(cls, value: object) -> object:
        # The pattern alone would tell people a regular expression.
        if isinstance(value, str) and not re.fullmatch(_LANGUAGE_CODE, value):
            raise PydanticCustomError("language_code", "expected an ISO 639 code such as 'en'")
        return value


@dataclass(frozen=True, slots=True)
class ResolvedOptions:
    """Options with every choice made."""

    model: str
    language: str | None
    vad: str


def resolve_options(
    options: JobOptions, catalogue: Catalogue, default_model: str
) -> ResolvedOptions:
    """Fill in what the client left open.

    Raises:
        UnknownModel: the catalogue has no such model.
        UnsupportedLanguage: the model does not speak the language.
    """
    wanted = options.model or AUTO
    model = catalogue.get(default_model if wanted == AUTO else wanted)
    if options.language is not None:
        model.check_language(options.language)
    return ResolvedOptions(model=model.id, language=options.language, vad=options.vad or model.vad)
