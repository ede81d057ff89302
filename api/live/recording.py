"""Saving a session: its audio goes to the object store and becomes a job at the session's end.

A recording outlives its connection: another one of this process that goes on with the session goes
on with the recording, too.
"""

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from api.intake.admission import MAX_LARGE, Admission, process_share
from api.intake.submit import LIMIT_S, Intake, JobRequest, submit
from api.live.checkpoints import GO_ON_S
from shared.infra.errors import EmptyFile, LonghandError
from shared.models.options import JobOptions, ResolvedOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.live.events import EndReason

log = logging.getLogger("api.live")

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Audio of one session that waits for the object store: four minutes."""
JOB_LIMIT_S = 5.0
"""How long the end of a session waits for its job."""
_SAMPLE_BYTES = 2
_UNKNOWN_BYTES = 0xFFFF_FFFF
_WAV_HEADER = struct.pack(
    *("<4sI4s4sIHHIIHH4sI", b"RIFF", _UNKNOWN_BYTES, b"WAVE", b"fmt ", 16, 1, 1),
    *(SAMPLE_RATE, SAMPLE_RATE * _SAMPLE_BYTES, _SAMPLE_BYTES, 8 * _SAMPLE_BYTES),
    *(b"data", _UNKNOWN_BYTES),
)
"""Of a recording whose length is not known yet."""


class Recording:
    """The audio of one session from a position on: a file that is being received (``Source``)."""

    n_bytes = None

    def __init__(
        self,
        asked: JobOptions,
        start: int,
        on_failed: Callable[[], None],
        paused: "dict[str, Recording] | None" = None,
    ) -> None:
        """Begin at a position of the session.

        ``on_failed`` is called when nothing can be kept while the session goes on. ``paused`` are
        the recordings that wait for a connection.
        """
        # Each session is a client of its own: how many there are is limited.
        self.client = uuid4().hex
        self._asked = asked
        self._on_failed = on_failed
        self._held, self._position = bytearray(), start
        """Audio that a later connection of the session may send again, and its position."""
        self._n_known_bytes = 0
        """Audio that comes again first."""
        self._waiting = bytearray()
        self._more = asyncio.Event()
        self._is_finished = False
        self._finals: list[tuple[int, str]] = []
        self._options: ResolvedOptions | None = None
        self._task: asyncio.Task[str | None] | None = None
        self._paused = {} if paused is None else paused
        self._owner = ""
        self._left: asyncio.Task[None] | None = None
        """Waits for a connection."""

    def start(self, intake: Intake, tenant: str) -> asyncio.Task[str | None]:
        """Begin to store; the task returns the job's id, or None where there is none."""
        self._task = asyncio.create_task(self._run(intake, tenant), name="recording")
        return self._task

    async def begin(self) -> None:
        """Return at once: a session has its place from its start."""

    def hear(self, pcm: bytes) -> None:
        """Take audio: s16le, any number of bytes."""
        if self._is_finished:
            return
        known = min(len(pcm), self._n_known_bytes)
        self._n_known_bytes -= known
        self._held += pcm[known:]
        if len(self._held) + len(self._waiting) > MAX_WAITING_BYTES:
            self._fail("the object store is too slow")

    def add_final(self, end: int, text: str) -> None:
        """Add the final of the audio before ``end``."""
        if text:
            self._finals.append((end, text))

    def release(self, position: int) -> None:
        """Store the audio before a position: it will not be sent again."""
        n_bytes = min(max(position - self._position, 0) * _SAMPLE_BYTES, len(self._held))
        n_bytes -= n_bytes % _SAMPLE_BYTES
        if self._is_finished or not n_bytes:
            return
        self._waiting += self._held[:n_bytes]
        del self._held[:n_bytes]
        self._position += n_bytes // _SAMPLE_BYTES
        self._more.set()

    def pause(self, owner: str, withdraw: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a connection that goes on with the session: the one that had it is lost.

        ``owner`` is who that was to the session's checkpoint. If none comes within ``GO_ON_S``,
        ``withdraw`` sees that none can come any more; it returns False if one has come elsewhere.
        """
        if self._is_finished:
            return

        async def leave() -> None:
            await asyncio.sleep(GO_ON_S)
            is_left = await withdraw()
            if self.is_paused:
                self._end_pause()
                self.end(EndReason.ERROR, goes_on=not is_left)

        self._owner, self._paused[owner] = owner, self
        self._left = asyncio.create_task(leave(), name="paused-recording")

    @property
    def is_paused(self) -> bool:
        """Whether it waits for a connection."""
        return self._left is not None

    def go_on(self, position: int, on_failed: Callable[[], None]) -> None:
        """Go on, paused, with a connection that sends what is after a position."""
        self._stop_waiting()
        self._on_failed = on_failed
        self.release(position)
        self._held.clear()
        self._n_known_bytes = (self._position - position) * _SAMPLE_BYTES
        self._finals = [final for final in self._finals if final[0] <= position]

    def end(self, reason: EndReason, *, goes_on: bool) -> None:
        """End the recording with its session, unless it is paused.

        Where the session ``goes_on`` at another process, that one records what was not released:
        the client sends it again.
        """
        if self.is_paused:
            return
        if reason is EndReason.CANCELLED:
            self.discard()
            return
        if reason is not EndReason.ERROR or not goes_on:
            self.release(self._position + len(self._held) // _SAMPLE_BYTES)
        self._held.clear()
        self._is_finished = True
        self._more.set()

    def give_up_waiting(self) -> None:
        """End a paused recording: the process stops, and the session may go on elsewhere."""
        self._stop_waiting()
        self.end(EndReason.ERROR, goes_on=True)

    def _stop_waiting(self) -> None:
        if self._left is not None:
            self._left.cancel()
        self._end_pause()

    def _end_pause(self) -> None:
        self._left = None
        self._paused.pop(self._owner, None)

    def discard(self) -> None:
        """Keep nothing."""
        self._is_finished = True
        self._held.clear()
        if self._task is not None:
            self._task.cancel()

    async def job_id(self) -> str | None:
        """Return the job's id once it is finished; None: there is none, or not in time."""
        assert self._task is not None
        await asyncio.wait({self._task}, timeout=JOB_LIMIT_S)
        if not self._task.done() or self._task.cancelled():
            return None
        return self._task.result()

    async def data(self) -> AsyncIterator[bytes]:
        """Yield a WAV file as it comes, within ``LIMIT_S``; without audio, nothing."""
        clock = asyncio.get_running_loop().time
        ends, is_first = clock() + LIMIT_S, True
        while clock() < ends and not (self._is_finished and not self._waiting):
            self._more.clear()
            if self._waiting:
                piece, self._waiting = bytes(self._waiting), bytearray()
                yield _WAV_HEADER + piece if is_first else piece
                is_first = False
            elif not self._is_finished:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(ends):
                        await self._more.wait()

    def request(self) -> JobRequest:
        """Return the job's request: the session's options and the finals of this audio."""
        assert self._options is not None
        told = [text for end, text in self._finals if end <= self._position]
        return JobRequest("live.wav", self._asked, self._options, live_text="\n".join(told))

    async def _run(self, intake: Intake, tenant: str) -> str | None:
        try:
            self._options = await intake.options.resolve(self._asked)
            return str((await submit(intake, tenant, self)).job_id)
        except EmptyFile:
            return None
        except LonghandError as error:
            self._fail(str(error))
            return None
        except Exception:
            log.exception("unexpected error")
            self._fail("unexpected error")
            return None

    def _fail(self, reason: str) -> None:
        log.warning("a live session is not saved: %s", reason)
        was_finished = self._is_finished
        if self._task is not asyncio.current_task():
            self.discard()
        self._stop_waiting()
        self._is_finished = True
        self._held.clear()
        self._waiting.clear()
        if not was_finished:
            self._on_failed()


class Recordings:
    """The recordings of one process. A recording becomes a job after its connection is closed."""

    def __init__(self, intake: Intake) -> None:
        # Sessions last for long: they must not take the places of other uploads.
        own = Admission(process_share(), max_large=MAX_LARGE)
        self._intake = replace(intake, admission=own)
        self._tasks: set[asyncio.Task[str | None]] = set()
        self._paused: dict[str, Recording] = {}
        """Those that wait for a connection, by who the one before was to its checkpoint."""

    def begin(
        self,
        tenant: str,
        asked: JobOptions,
        about: Mapping[str, Any],
        start: int,
        on_failed: Callable[[], None],
    ) -> Recording:
        """Record a session from a position on; its job gets the options and the metadata."""
        chosen = asked.model_copy(update={"metadata": dict(about), "wait_for_worker": True})
        recording = Recording(chosen, start, on_failed, self._paused)
        task = recording.start(self._intake, tenant)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return recording

    def go_on(self, former: str, position: int, on_failed: Callable[[], None]) -> Recording | None:
        """Go on with the recording of a session that was taken over from ``former``.

        None: this process does not have it.
        """
        recording = self._paused.get(former)
        if recording is not None:
            recording.go_on(position, on_failed)
        return recording

    async def drain(self, limit_s: float) -> None:
        """Wait until the recordings that have ended are jobs; give up those that do not end."""
        for recording in (*self._paused.values(),):
            recording.give_up_waiting()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=limit_s)
            for task in late:
                task.cancel()
        await self._intake.drain(limit_s)
