"""How a connection keeps its session's checkpoint: written in step with what the client is told."""

from collections.abc import Callable, Mapping
from typing import Any

from api.live.checkpoints import BEAT_S, Checkpoint, Checkpoints, Displaced, TakenOver
from api.live.outbox import Outbox


class Recovery:
    """The checkpoint of one connection's session, if it has one."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        outbox: Outbox,
        tenant: str,
        on_displaced: Callable[[bool], None],
        on_acked: Callable[[int], None],
    ) -> None:
        """Make one without a checkpoint.

        ``on_displaced`` is called once when another connection goes on with the session, with
        whether it is one of this process; ``on_acked`` with each position before which no audio is
        needed any more.
        """
        self._checkpoints, self._outbox, self._tenant = checkpoints, outbox, tenant
        self._on_displaced, self._on_acked = on_displaced, on_acked
        self._checkpoint: Checkpoint | None = None
        self._is_displaced = False
        self._acked = 0
        self._beat_at = 0.0
        self.is_beginning = False
        """Whether the checkpoint is being made, before which the client is told of no session."""

    @property
    def is_possible(self) -> bool:
        """Whether the session may go on elsewhere."""
        return self._checkpoint is not None and not self._checkpoint.is_lost

    @property
    def owner(self) -> str:
        """Who this connection is to the checkpoint; empty without one."""
        return "" if self._checkpoint is None else self._checkpoint.owner

    async def begin(self, header: Mapping[str, Any]) -> str | None:
        """Make a checkpoint and return its token; None: the session cannot be resumed.

        ``header`` is what a session that goes on begins with.
        """
        self.is_beginning = True
        try:
            self._checkpoint = await self._checkpoints.begin(
                self._tenant, header, self._displace_here
            )
        finally:
            self.is_beginning = False
        return None if self._checkpoint is None else self._checkpoint.token

    async def take_over(self, token: str, last_segment: str) -> TakenOver:
        """Take a session over from the connection that had it.

        Raises:
            LiveError: the tenant has no such session, or Redis is away.
        """
        self.release()
        taken = await self._checkpoints.take_over(
            self._tenant, token, last_segment, self._displace_here
        )
        self._checkpoint, self._acked = taken.checkpoint, taken.acked
        return taken

    def send_final(self, text: str, segment: str, end: int, speakers: str = "") -> None:
        """Send a final after it is stored: audio before ``end`` is not needed any more.

        ``speakers`` are those that finals have told of so far.
        """

        async def store() -> str:
            await self._write(end, (segment, text), speakers)
            return "" if self._is_displaced else text

        self._outbox.put_when(store, len(text))

    def beat(self, now: float, settled: int) -> None:
        """Renew the checkpoint if it is time; audio before ``settled`` is not needed any more."""
        if now - self._beat_at < BEAT_S:
            return
        self._beat_at = now

        async def renew() -> str:
            await self._write(settled)
            return ""

        # It waits for the finals before it: their audio is needed until they are stored.
        self._outbox.put_when(renew)

    def forget(self) -> None:
        """See that the session cannot be resumed."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            return

        async def drop() -> str:
            await self._checkpoints.drop(checkpoint)
            return ""

        self._outbox.put_when(drop)

    async def withdraw(self) -> bool:
        """See that the session cannot be resumed; return False if another connection has it."""
        return self._checkpoint is None or await self._checkpoints.drop(self._checkpoint)

    def release(self) -> None:
        """Hold the checkpoint no longer; the session can be resumed for a minute."""
        if self._checkpoint is not None:
            self._checkpoints.release(self._checkpoint)

    async def _write(
        self, acked: int, final: tuple[str, str] | None = None, speakers: str = ""
    ) -> None:
        self._acked = max(self._acked, acked)
        if self._is_displaced:
            return
        try:
            if self._checkpoint is not None:
                await self._checkpoints.write(self._checkpoint, self._acked, final, speakers)
        except Displaced:
            self._displace(here=False)
        else:
            self._on_acked(self._acked)

    def _displace_here(self) -> None:
        self._displace(here=True)

    def _displace(self, *, here: bool) -> None:
        if not self._is_displaced:
            self._is_displaced = True
            self._on_displaced(here)
