"""What a person asks of ``longhand transcribe``."""

import json
from dataclasses import dataclass
from pathlib import Path

from cli.formats import SUBTITLES
from cli.transcribe.sources import is_folder
from shared.models.options import JobOptions


@dataclass(frozen=True, slots=True)
class Request:
    """Arguments and options of the command, checked."""

    files: tuple[Path, ...]
    """Files, folders and '-', as they were named."""
    options: JobOptions
    """Of every job."""
    priority: int = 0
    """Of every job: those with a higher one go first."""
    formats: tuple[str, ...] = ("txt",)
    """Exactly one where there is no ``output``."""
    output: Path | None = None
    """The folder to write to; None: transcripts are printed."""
    jobs: int = 4
    """Files under way at once. Four keep a worker's batches full while others are uploaded."""
    skip_existing: bool = False
    reference: str | None = None
    """What was really said in the only file."""
    max_line_width: int | None = None
    """Characters of a subtitle's line; None: the server's default."""
    max_line_count: int | None = None
    """Lines of a subtitle; None: the server's default."""

    @property
    def several(self) -> bool:
        """Whether more than one file was asked for, even if a folder turns out to hold one."""
        return len(self.files) > 1 or is_folder(self.files[0])

    def sizes(self, form: str) -> dict[str, str]:
        """Return the sizes of subtitles as query parameters; {} for a format that has none."""
        sizes = {"max_line_width": self.max_line_width, "max_line_count": self.max_line_count}
        chosen = {name: str(size) for name, size in sizes.items() if size is not None}
        return chosen if form in SUBTITLES else {}

    def fields(self, model: str | None) -> dict[str, str]:
        """Return the form fields of ``POST /jobs``, without those that have their default."""
        chosen = {
            **self.options.model_dump(exclude_defaults=True),
            "model": model,
            "priority": self.priority or None,
        }
        return {name: _field(value) for name, value in chosen.items() if value is not None}


def _field(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
