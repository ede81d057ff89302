"""What is found out about a file while its audio is read."""

from dataclasses import dataclass, field
from typing import NamedTuple

from shared.speech.audio.timemap import TimeMap


class Warned(NamedTuple):
    """A transcript's warning. A decoder does without Pydantic, which would double its memory."""

    code: str
    detail: str


@dataclass
class Findings:
    """Facts about a file, filled in while its blocks are read."""

    times: TimeMap = field(default_factory=TimeMap)
    """Where samples lie on the file's clock."""
    warnings: list[Warned] = field(default_factory=list)
    """Complete after the last block."""
    read_bytes: int = 0
    """How much of the file the blocks so far come from; told by ``worker.media.sandbox`` only."""

    def warn(self, code: str, detail: str) -> None:
        """Add a warning."""
        self.warnings.append(Warned(code, detail))
