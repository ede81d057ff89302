"""One file of a batch, and what has become of it."""

import threading
from dataclasses import dataclass, field
from enum import Enum

from cli.transcribe.sources import Source
from cli.transcribe.transcript_files import TranscriptFiles


class State(Enum):
    """How a file stands."""

    OPEN = "open"
    """Not begun, or under way."""
    DONE = "done"
    """Its transcript is written, or about to be printed."""
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Work:
    """One file of a batch. Until it has ended, only the thread that transcribes it writes here."""

    source: Source
    outputs: TranscriptFiles | None = None
    """Where its transcript is written; None: it is left in ``text``."""
    state: State = State.OPEN
    share: float = 0.0
    """Share of the audio that is transcribed, in [0, 1]."""
    audio_s: float | None = None
    """Length of the audio, once that is known."""
    cached: bool = False
    """Whether the transcript is that of an equal, earlier job."""
    problem: str = ""
    """Why it failed, in one sentence."""
    text: str = ""
    """The transcript that is to be printed."""
    ended: threading.Event = field(default_factory=threading.Event)
