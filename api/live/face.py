"""What a protocol does for its connections: it reads the client's messages, and tells events."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from starlette.requests import HTTPConnection
from starlette.responses import Response

from api.live.errors import LiveError
from api.live.timing import Timing
from api.problems import error_response
from shared.speech.live.events import Event


class Face(ABC):
    """One client's side of a protocol. All is called on the event loop."""

    answer_error: Callable[[HTTPConnection, Exception], Response] = staticmethod(error_response)
    """Makes the answer to a handshake that is refused."""

    def on_handshake(self) -> None:  # noqa: B027 - most protocols begin it later
        """Begin the session, if the handshake says all that it is to be.

        Raises:
            LiveError: it cannot begin; the handshake is refused.
        """

    def on_open(self) -> None:  # noqa: B027 - most protocols wait for a message
        """Do what the protocol does as soon as the connection is open.

        Raises:
            LiveError: it cannot be done.
        """

    @abstractmethod
    async def on_text(self, text: str) -> None:
        """Do what a text message asks.

        Raises:
            LiveError: it is no message of the protocol, or cannot be followed.
        """

    @abstractmethod
    def on_audio(self) -> None:
        """Begin a session for the audio that has come, if the protocol does so.

        Raises:
            LiveError: there is none.
        """

    @abstractmethod
    async def take_audio(self, audio: bytes) -> None:
        """Take a message of audio.

        Raises:
            LiveError: there is no session for it.
        """

    def on_heard(self) -> None:  # noqa: B027 - most protocols tell nothing then
        """Send what the protocol sends whenever audio has come."""

    @abstractmethod
    def tell(self, event: Event, timing: Timing | None) -> None:
        """Send what an event means; ``timing`` is that of its answer."""

    @abstractmethod
    def tell_error(self, error: LiveError) -> None:
        """Send an error."""

    def close_for(self, error: LiveError) -> tuple[int, str]:
        """Return the code and the reason with which an error closes the connection."""
        return error.close or 1000, ""
