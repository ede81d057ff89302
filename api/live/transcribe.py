"""``/ws/transcribe``: audio in, the text of the whole session out; docs/live.md describes it."""

from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import Field, TypeAdapter

from api.live.connection import Connection
from api.live.errors import LiveError
from api.live.messages import Message, read_message
from api.live.sessions import Encoding, Wish
from api.live.timing import Timing
from shared.models.options import JobOptions, Language
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.live.events import Ended, EndReason, Event, Failed, Final, Partial


class Config(Message):
    """The language of what follows, and how audio is encoded, before there is any."""

    type: Literal["config"]
    language: Language = "en"
    detect_language: bool = False
    encoding: Encoding = "pcm_s16le"


class End(Message):
    """No more audio comes."""

    type: Literal["end"]


_MESSAGES: TypeAdapter[Config | End] = TypeAdapter(
    Annotated[Config | End, Field(discriminator="type")]
)


class TranscribeConnection(Connection):
    """A client of ``/ws/transcribe``.

    An interim goes out right after audio has come, and at no other time: a client that looks for
    one after each message that it sends, and for the final after ``end``, reads them in step.
    """

    _language: str | None = "en"
    _encoding: Encoding = "pcm_s16le"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._finals: list[Final] = []
        self._partial = ""
        self._told = ""

    async def on_text(self, text: str) -> None:
        """Follow a message."""
        message = read_message(_MESSAGES, text)
        if isinstance(message, Config):
            if self.session is not None and message.encoding != self._encoding:
                raise LiveError("INVALID_MESSAGE", "'encoding' after audio.")
            self._encoding = message.encoding
            self._language = None if message.detect_language else message.language
            self.change(language=self._language)
        else:
            self.on_audio()  # so that the final of no audio at all is empty
            self.finish()

    def on_audio(self) -> None:
        """Begin the session with the first audio."""
        if self.session is None:
            self.begin(
                uuid4().hex, Wish(JobOptions(language=self._language), encoding=self._encoding)
            )

    def on_heard(self) -> None:
        """Send the text so far if it has changed."""
        text = " ".join(filter(None, [*(final.text for final in self._finals), self._partial]))
        if text != self._told:
            self._told = text
            self.send({"type": "interim", "text": text}, key="interim")

    def tell(self, event: Event, timing: Timing | None) -> None:  # noqa: ARG002
        """Remember the text, and send the whole of it at the end."""
        match event:
            case Partial():
                self._partial = event.text
            case Final():
                self._partial = ""
                if event.text:
                    self._finals.append(event)
            case Failed():
                self.tell_error(
                    LiveError("INFERENCE_ERROR", f"A part could not be heard: {event.code}.")
                )
            case Ended(reason=EndReason.COMPLETED | EndReason.TIMEOUT | EndReason.ERROR):
                self.send(
                    {
                        "type": "final",
                        "text": " ".join(final.text for final in self._finals),
                        "language": self._spoken(),
                        "chunks": [_chunk(final) for final in self._finals],
                    }
                )

    def tell_error(self, error: LiveError) -> None:
        """Send an error."""
        self.send({"type": "error", "message": str(error)})

    def _spoken(self) -> str | None:
        """Return the language asked for, or else the first one that was detected."""
        detected = (final.language for final in self._finals if final.language)
        return self._language or next(detected, None)


def _chunk(final: Final) -> dict[str, Any]:
    start = final.words[0].start if final.words else final.start
    end = final.words[-1].end if final.words else final.end
    return {
        "text": final.text,
        "timestamp": [round(start / SAMPLE_RATE, 3), round(end / SAMPLE_RATE, 3)],
    }
