"""The audio of one session on its way from the client: decoded, expanded or resampled, and no
faster than it is heard."""

import asyncio
import time
from collections.abc import Callable, Mapping

from api.live.decoders import Decoder
from api.live.errors import LiveError
from api.live.sessions import Encoding, LiveSessions, Wish
from shared.speech.audio.companding import Law, expand
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.resampling import PcmResampler
from shared.speech.live.options import samples_of
from shared.speech.live.session import LiveSession

BLOCK_S = 0.256
"""Audio that is searched for speech before other sessions have their turn. It takes about half a
millisecond."""
STALL_S = 3.0
"""A segment ends when its client has sent no audio for this long: some send no silence."""
_LAWS: Mapping[Encoding, Law] = {"pcm_mulaw": "mulaw", "pcm_alaw": "alaw"}
_CONTAINERS: tuple[Encoding, ...] = ("webm_opus", "container")


class IncomingAudio:
    """Hands a session's audio on as s16le at 16 kHz."""

    def __init__(
        self,
        session: LiveSession,
        wish: Wish,
        live: LiveSessions,
        *,
        on_block: Callable[[bytes], None],
        on_message: Callable[[], None],
        on_end: Callable[[LiveError | None], None],
        on_bug: Callable[[], None],
    ) -> None:
        """Be ready for what ``wish`` says the audio is.

        Args:
            session: whose backlog bounds what is taken.
            wish: the encoding and the sample rate.
            live: its settings, and the decoders of containers.
            on_block: takes audio, at most BLOCK_S of it.
            on_message: is called after the blocks of a message.
            on_end: is called once no more audio comes, with the error if that is why.
            on_bug: is called while an unexpected exception is handled.
        """
        self._session = session
        self._most_backlog = samples_of(live.settings.live_max_buffer_ms)
        self._on_block, self._on_message = on_block, on_message
        self._on_end, self._on_bug = on_end, on_bug
        self._came_at = time.monotonic()
        self._caught_up, self._is_behind = asyncio.Event(), False
        self._law = _LAWS.get(wish.encoding)
        self._resampler: PcmResampler | None = None
        self._decoder: Decoder | None = None
        self._decoding: asyncio.Task[None] | None = None
        rate = wish.sample_rate
        if wish.encoding in _CONTAINERS:
            rate = SAMPLE_RATE
            self._decoder = Decoder(live.decoders, any_format=wish.encoding == "container")
            self._decoding = asyncio.create_task(self._decode(self._decoder))
        elif rate != SAMPLE_RATE:
            self._resampler = PcmResampler(rate)
        self._block_bytes = round(BLOCK_S * rate) * (1 if self._law else 2)

    async def take(self, data: bytes) -> None:
        """Take a message of the client."""
        if self._decoder is None:
            await self._pass_on(data)
        else:
            self._came_at = time.monotonic()
            await self._decoder.feed(data)

    async def settle(self) -> None:
        """Wait until all that was taken is handed on."""
        if self._decoder is not None:
            await self._decoder.settle()

    async def wait_for_room(self) -> None:
        """Leave what the client sends in its own buffers while the workers are behind."""
        while self._session.backlog > self._most_backlog:
            self._is_behind = True
            self._caught_up.clear()
            await self._caught_up.wait()
        if self._is_behind:
            self._is_behind, self._came_at = False, time.monotonic()

    def note_answer(self) -> None:
        """The session has an answer, so that there may be room."""
        self._caught_up.set()

    def has_stalled(self, now: float) -> bool:
        """Return whether the client has sent nothing for STALL_S although there was room."""
        return not self._is_behind and now - self._came_at > STALL_S

    def finish(self) -> None:
        """Take no more: the end comes after what is left to decode."""
        if self._decoder is not None:
            self._decoder.finish()
        else:
            self._on_end(None)

    async def close(self) -> None:
        """Drop what is left."""
        if self._decoding is not None:
            self._decoding.cancel()
            await asyncio.gather(self._decoding, return_exceptions=True)
        if self._decoder is not None:
            await self._decoder.close()

    async def _pass_on(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), self._block_bytes):
            if start:
                await asyncio.sleep(0)
            self._came_at = time.monotonic()
            block = pcm[start : start + self._block_bytes]
            if self._law is not None:
                block = expand(block, self._law)
            if self._resampler is not None:
                block = self._resampler.push(block)
            self._on_block(block)
        self._on_message()

    async def _decode(self, decoder: Decoder) -> None:
        """Hand on what the decoder makes of the stream, to its end."""
        try:
            async for pcm in decoder.pieces():
                await self._pass_on(pcm)
                await self.wait_for_room()
                await asyncio.sleep(0)  # what is there already is read without waiting
            self._on_end(None)
        except LiveError as error:
            self._on_end(error)
        except Exception:  # noqa: BLE001 - a bug ends this session and no other
            self._on_bug()
