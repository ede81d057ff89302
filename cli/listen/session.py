"""A live session with a server, in a thread of its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

from longhand_sdk import AsyncLonghand
from longhand_sdk.live import LiveFinal, LiveLost, LiveOptions, LivePartial, LiveWarning

from cli.errors import CommandError
from cli.listen.sound import Sound
from cli.server import made, told


class Session:
    """One session; ``run`` it once, in a thread of its own."""

    def __init__(
        self,
        url: str,
        options: LiveOptions,
        *,
        on_partial: Callable[[str], None],
        on_final: Callable[[str], None],
        on_warning: Callable[[str], None],
    ) -> None:
        """Prepare a session with the server at an http(s) address; nothing is connected to yet.

        The functions are called in the thread that runs the session. ``on_warning`` gets a
        sentence.
        """
        self._url, self._options = url, options
        self._on_partial, self._on_final, self._on_warning = on_partial, on_final, on_warning
        self._sent_all = threading.Event()
        self._error: Exception | None = None
        self.done = threading.Event()
        """Set once the session is over."""

    def end(self) -> None:
        """Send no more audio: what was sent still gets its text."""
        self._sent_all.set()

    def run(self, sound: Sound) -> None:
        """Hold the session until the sound's text is there; ``check`` tells how that went."""
        try:
            with told():
                asyncio.run(self._hold(sound))
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self._error = error
        finally:
            self.done.set()

    def check(self) -> None:
        """Raise what has ended the session before its time.

        Raises:
            CommandError: the server cannot be reached, or refuses; the sound cannot be read.
            BrokenPipeError: nobody reads the text any more.
        """
        if self._error is not None:
            raise self._error

    async def _hold(self, sound: Sound) -> None:
        is_whole = True
        try:
            async with (
                made(AsyncLonghand, self._url) as client,
                client.live(**self._options) as session,
            ):
                async for event in session.transcribe(self._pieces(sound)):
                    match event:
                        case LivePartial():
                            self._on_partial(event.text)
                        case LiveFinal():
                            self._on_final(event.text)
                        case LiveLost():
                            lost = f"the connection to {session.url} was lost"
                            self._on_warning(f"{lost}; the session goes on")
                        case LiveWarning(code="INFERENCE_ERROR"):
                            is_whole = False
                            self._on_warning(f"something said was not transcribed: {event.message}")
                        case LiveWarning():
                            self._on_warning(f"the server is late: {event.message}")
        finally:
            self._sent_all.set()  # the thread that reads the sound ends
        if not is_whole:
            raise CommandError("the text is not whole")

    async def _pieces(self, sound: Sound) -> AsyncIterator[bytes]:
        pieces = sound.pieces(self._sent_all)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece
