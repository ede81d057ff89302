"""The clock of a connection: clients that are silent, and answers that are late."""

import asyncio
import time
from collections.abc import Callable

from api.live.errors import POLICY_VIOLATION
from api.live.flow import Flow
from api.live.outbox import Outbox
from shared.speech.live.events import EndReason

START_S = 30.0
"""How long a connection may be without a session."""
LOOK_S = 0.5


async def watch(flow: Flow, outbox: Outbox, idle_s: Callable[[], float]) -> None:
    """Look after a connection until this is cancelled, or something fails.

    ``idle_s`` returns how long its client may send nothing.
    """
    began_at = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_S)
        now = time.monotonic()
        try:
            if flow.session is None:
                if now - began_at > START_S:
                    outbox.close(POLICY_VIOLATION, "no session was started")
                continue
            if flow.recovery.is_beginning:  # nothing is told before its begin
                continue
            if now - flow.received_at > idle_s():
                flow.end(EndReason.TIMEOUT)
            flow.look(now)
        except Exception:  # noqa: BLE001 - a bug ends this session and no other
            flow.fail()
            return
