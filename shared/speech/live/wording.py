"""How a session's words are told: with their speakers, and with the edits that were asked for."""

from dataclasses import replace

from shared.speech.live.edits import LiveEditor
from shared.speech.live.events import Event, Final, Partial
from shared.speech.live.speakers import speakers_of
from shared.speech.speakers.online import OnlineSpeakers
from shared.speech.transcript.edits import Edits


class Wording:
    """Of one session. Finals must come in order: each may bring a speaker."""

    def __init__(self, edits: Edits | None = None, speakers: OnlineSpeakers | None = None) -> None:
        """``speakers``: those who have talked; None: nobody wants to know."""
        self.speakers = speakers
        self.edit(edits)

    def edit(self, edits: Edits | None) -> None:
        """Have what follows told with other edits."""
        self._editor = None if edits is None else LiveEditor(edits)

    def of(self, event: Event) -> Event:
        """Return an event as the client is told of it."""
        match event:
            case Partial() if self._editor is not None:
                hypothesis = None if event.answer is None else event.answer.hypothesis
                language = None if hypothesis is None else hypothesis.language
                return self._editor.partial(event, language)
            case Final():
                if self.speakers is not None:
                    event = self._spoken(event, self.speakers)
                return event if self._editor is None else self._editor.final(event)
        return event

    def _spoken(self, final: Final, speakers: OnlineSpeakers) -> Final:
        voices = (final.answer and final.answer.voices) or ()
        labels = speakers.labels(voices)
        return replace(final, speakers=speakers_of(final.words, final.start, voices, labels))
