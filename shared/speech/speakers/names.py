"""How a transcript's talkers are called, in formats for people."""

from typing import Protocol

from shared.speech.transcript.transcript import Header


class Spoken(Protocol):
    """A segment, a paragraph or a cue."""

    @property
    def channel(self) -> int | None: ...

    @property
    def speaker(self) -> int | None: ...


class TalkerNames:
    """The names of a transcript's speakers, and of channels whose speakers are not known."""

    def __init__(self, header: Header) -> None:
        self._names = {speaker.id: speaker.name for speaker in header.speakers or ()}

    def of(self, spoken: Spoken) -> str:
        """Return who speaks; empty: nobody is known."""
        if spoken.speaker is not None:
            return self._names.get(spoken.speaker, speaker_name(spoken.speaker))
        return "" if spoken.channel is None else channel_name(spoken.channel)


def speaker_name(speaker: int) -> str:
    """Return the name of a speaker who was given none."""
    return f"Speaker {speaker}"


def channel_name(channel: int) -> str:
    """Return the name of a channel, from 0."""
    return f"Channel {channel}"
