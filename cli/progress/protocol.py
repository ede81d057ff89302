"""What a command tells of its work while it goes on, however that is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cli.progress.figures import duration, factor

TRANSCRIBING = "transcribing"
"""The phase whose fraction is that of the audio: a terminal shows the percentage instead."""


@dataclass(frozen=True, slots=True)
class Total:
    """How far a batch of files is."""

    files: int
    done: int
    failed: int
    fraction: float
    """Share of the batch that is done, in [0, 1]."""
    audio_s: float
    """Audio of the files that are done, in seconds."""
    rtfx: float | None
    """Seconds of audio per second since the batch began; None while nothing is transcribed."""
    eta_s: float | None
    """Seconds until the batch is done; None while nobody can tell."""

    def __str__(self) -> str:
        parts = [f"{self.done}/{self.files} done"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.audio_s:
            parts.append(f"{duration(self.audio_s)} of audio")
        if self.rtfx is not None:
            parts.append(f"RTFx {factor(self.rtfx)}")
        if self.eta_s is not None:
            parts.append(f"{duration(self.eta_s)} left")
        return ", ".join(parts)


class Progress(Protocol):
    """Shows how far things are; safe to call from several threads."""

    def say(self, line: str) -> None:
        """Show a line that stays."""
        ...

    def show(self, name: str, phase: str, fraction: float | None = None, detail: str = "") -> None:
        """Show that ``name`` is in ``phase``.

        Args:
            name: of a file or of a model.
            phase: one word.
            fraction: done of the phase, in [0, 1]; None where nobody can tell. At 1 the name has
                ended, and leaves a line.
            detail: what else there is to say of it.
        """
        ...

    def leave(self, name: str, phase: str, detail: str = "", *, line: bool = True) -> None:
        """Show that ``name`` has ended; a display that moves keeps a line of it if ``line``."""
        ...

    def total(self, total: Total) -> None:
        """Show how far the whole batch is; to be called about once a second."""
        ...

    def aside(self, write: Callable[[], None]) -> None:
        """Run ``write``, which writes to stdout: that may be the same terminal."""
        ...

    def finish(self) -> None:
        """Remove what moves; from now on there are lines only."""
        ...
