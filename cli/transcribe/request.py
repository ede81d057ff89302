"""What a person asks of ``longhand transcribe``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.transcribe.sources import Name, is_folder
from shared.models.options import JobOptions
from shared.speech.names import SUBTITLES


@dataclass(frozen=True, slots=True)
class Request:
    """Arguments and options of the command, checked."""

    files: tuple[Name, ...]
    """Files, folders, '-' and URLs, as they were named."""
    options: JobOptions
    """Of every job."""
    formats: tuple[str, ...] = ("txt",)
    """Exactly one where there is no ``output``."""
    output: Path | None = None
    """The folder to write to; None: transcripts are printed."""
    sizes: Mapping[str, str] = field(default_factory=dict)
    """The server's parameters for the sizes of subtitles; its defaults are left out."""
    jobs: int = 4
    """Files under way at once. Four keep a worker's batches full while others are uploaded."""
    skip_existing: bool = False
    reference: str | None = None
    """What was really said in the only file."""

    @property
    def several(self) -> bool:
        """Whether more than one file was asked for, even if a folder turns out to hold one."""
        return len(self.files) > 1 or is_folder(self.files[0])

    def sizes_of(self, form: str) -> Mapping[str, str]:
        """Return the ``sizes`` that a format has."""
        return self.sizes if form in SUBTITLES else {}

    def members(self, model: str | None) -> dict[str, Any]:
        """Return the options of ``POST /jobs``, without those that have their default."""
        chosen = self.options.model_dump(mode="json", exclude_defaults=True) | {"model": model}
        return {name: value for name, value in chosen.items() if value is not None}
