"""What a client may ask of a job, checked against the catalogue."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.catalogue import Catalogue

AUTO = "auto"
"""Stands for the platform's default model."""


class JobOptions(BaseModel):
    """The options of ``POST /jobs``; all of them optional."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(default=None, description="catalogue id; omitted or 'auto': default")
    language: str | None = Field(
        default=None,
        pattern="^[a-z]{2,3}$",
        description="ISO 639 code of the speech; omitted: the model detects it",
    )
    vad: Literal["silero", "energy", "off"] | None = Field(
        default=None, description="voice activity detector; omitted: the model's own"
    )


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
