"""One file of a batch, and what has become of it."""

import threading
from dataclasses import dataclass, field
from enum import Enum

from cli.transcribe.sources import Source


class State(Enum):
    """How a file stands."""

    OPEN = "open"
    """Not begun, or under way."""
    DONE = "done"
    """Its transcript is written, or about to be printed."""
    FAILED = "failed"


@dataclass(slots=True)
class Work:
    """One file of a batch. Only the thread that transcribes it writes here, until it has ended."""

    source: Source
    state: State = State.OPEN
    share: float = 0.0
    """How much of the audio is transcribed, in [0, 1]."""
    audio_s: float | None = None
    """Length of the audio, once that is known."""
    cached: bool = False
    """Whether the transcript is that of an equal, earlier job."""
    problem: str = ""
    """Why it failed, in one sentence."""
    texts: dict[str, str] = field(default_factory=dict)
    """Transcripts to be printed, by format."""
    ended: threading.Event = field(default_factory=threading.Event)
    bug: BaseException | None = None
    """An unexpected exception, which the main thread raises again."""
