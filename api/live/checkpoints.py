"""What a session leaves in Redis, so that another connection can go on with it.

A checkpoint is the session's id and config, the position before which no audio is needed, and its
latest finals. It is found by a token that only the client knows, and it belongs to the connection
that took it over last: nobody else can write to it.
"""

import asyncio
import hashlib
import json
import logging
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from api.live.errors import TRY_AGAIN_LATER, LiveError
from shared.infra.settings import Settings
from shared.queue.live import keys

log = logging.getLogger("api.live")

BEAT_S = 2.0
"""How often a session that goes on renews its checkpoint."""
GO_ON_S = 60.0
"""How long a session can be resumed after its connection broke."""
_TTL_S = GO_ON_S + 2 * BEAT_S
_MAX_FINALS = 100
"""The latest finals that are kept."""
_LIMIT_S = 1.0

_WRITE = """
-- KEYS: checkpoint, its finals.
-- ARGV: owner, acknowledged position, milliseconds it lasts, most finals, speakers ('': as before),
--       number of the first final that follows, finals.
-- Returns 1; 0: another owns it; -1: there is none.
local owner = redis.call('HGET', KEYS[1], 'owner')
if not owner then
    return -1
end
if owner ~= ARGV[1] then
    return 0
end
local n = tonumber(redis.call('HGET', KEYS[1], 'finals'))
for i = 7, #ARGV do
    if tonumber(ARGV[6]) + i - 7 >= n then
        redis.call('RPUSH', KEYS[2], ARGV[i])
        n = n + 1
    end
end
redis.call('LTRIM', KEYS[2], -tonumber(ARGV[4]), -1)
redis.call('HSET', KEYS[1], 'acked', ARGV[2], 'finals', n)
if ARGV[5] ~= '' then
    redis.call('HSET', KEYS[1], 'speakers', ARGV[5])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
"""

_TAKE = """
-- KEYS: checkpoint, its finals.
-- ARGV: new owner, milliseconds it lasts, segment of the last final that the client has ('': none).
-- Returns header, acknowledged position, number of finals, speakers, former owner, and the finals
-- after that one; or nil.
local held = redis.call('HMGET', KEYS[1], 'header', 'acked', 'finals', 'speakers', 'owner')
if not held[1] then
    return false
end
local last = ARGV[3]
local found = last == ''
for _, final in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
    if found then
        held[#held + 1] = final
    elseif string.sub(final, 1, #last + 1) == last .. ' ' then
        found = true
    end
end
if not found then
    return false
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return held
"""

_DROP = """
-- KEYS: checkpoint, its finals. ARGV: owner. Returns 0 if another owns it, else 1.
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then
    return 0
end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
"""


class Displaced(Exception):
    """Another connection goes on with the session."""


@dataclass(slots=True, eq=False)
class Checkpoint:
    """One session's, held by its connection."""

    token: str
    key: str
    on_displaced: Callable[[], None]
    """Called when another connection of this process takes it over, before it has it."""
    n_finals: int = 0
    """Those that are stored."""
    owner: str = field(default_factory=lambda: uuid.uuid4().hex)
    unstored: list[bytes] = field(default_factory=list)
    """Finals that went out while Redis was away."""
    speakers: str = ""
    """Those that the finals have told of; empty: none, or it is stored."""
    is_lost: bool = False
    """Redis has lost it: the session cannot be resumed any more."""


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A session to go on with."""

    checkpoint: Checkpoint
    header: Mapping[str, Any]
    """What was given when it began."""
    acked: int
    """The sample to go on from."""
    n_finals: int
    speakers: str
    """Those that the finals have told of (``OnlineSpeakers.to_json``); empty: none."""
    former: str
    """The checkpoint's owner before."""
    missing: tuple[str, ...]
    """The finals, as they were sent, that the client does not have."""


class Checkpoints:
    """The checkpoints that connections of one process hold. For use on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._redis = keys.connect_async(settings)
        self._write = self._redis.register_script(_WRITE)
        self._take = self._redis.register_script(_TAKE)
        self._drop = self._redis.register_script(_DROP)
        self._held: dict[str, Checkpoint] = {}

    async def begin(
        self, tenant: str, header: Mapping[str, Any], on_displaced: Callable[[], None]
    ) -> Checkpoint | None:
        """Return a new session's checkpoint; None: Redis is away, and it cannot be resumed."""
        token = secrets.token_urlsafe(32)
        checkpoint = Checkpoint(token, _key(tenant, token), on_displaced)
        fields = {"owner": checkpoint.owner, "header": json.dumps(header), "acked": 0, "finals": 0}
        try:
            async with (
                asyncio.timeout(_LIMIT_S),
                self._redis.pipeline(transaction=True) as pipeline,
            ):
                pipeline.hset(checkpoint.key, mapping=fields)
                pipeline.expire(checkpoint.key, round(_TTL_S))
                await pipeline.execute()
        except keys.OUTAGES as error:
            log.warning("a live session cannot be resumed: Redis cannot be reached: %s", error)
            return None
        self._held[checkpoint.key] = checkpoint
        return checkpoint

    async def take_over(
        self, tenant: str, token: str, last_segment: str, on_displaced: Callable[[], None]
    ) -> TakenOver:
        """Take a session over from the connection that had it.

        ``last_segment`` is that of the last final that the client has; empty: it has none.

        Raises:
            LiveError: the tenant has no such session, or Redis is away.
        """
        checkpoint = Checkpoint(token, _key(tenant, token), on_displaced)
        try:
            async with asyncio.timeout(_LIMIT_S):
                held = await self._take(
                    keys=_keys(checkpoint),
                    args=[checkpoint.owner, round(1000 * _TTL_S), last_segment],
                )
        except keys.OUTAGES as error:
            raise LiveError(
                "QUEUE_CONGESTION", "Sessions cannot be resumed now.", TRY_AGAIN_LATER
            ) from error
        if held is None:
            raise LiveError("SESSION_NOT_FOUND", "There is no such session to resume.")
        header, acked, n_finals, speakers, former, *missing = held
        checkpoint.n_finals = int(n_finals)
        older = self._held.pop(checkpoint.key, None)
        self._held[checkpoint.key] = checkpoint
        if older is not None:
            older.on_displaced()
        return TakenOver(
            checkpoint,
            json.loads(header),
            int(acked),
            int(n_finals),
            (speakers or b"").decode(),
            former.decode(),
            tuple(final.partition(b" ")[2].decode() for final in missing),
        )

    async def write(
        self,
        checkpoint: Checkpoint,
        acked: int,
        final: tuple[str, str] | None = None,
        speakers: str = "",
    ) -> None:
        """Store a position before which no audio is needed, and a final: its segment and text.

        A final is stored before it is sent, so that none is told twice. What cannot be stored as
        Redis is away is stored with what comes next.

        Raises:
            Displaced: another connection has taken the session over.
        """
        if final is not None:
            segment, text = final
            checkpoint.unstored.append(f"{segment} {text}".encode())
            checkpoint.is_lost |= len(checkpoint.unstored) > _MAX_FINALS
        checkpoint.speakers = speakers or checkpoint.speakers
        if checkpoint.is_lost:
            checkpoint.unstored.clear()
            return
        limits = [round(1000 * _TTL_S), _MAX_FINALS]
        finals = [*checkpoint.unstored]
        try:
            async with asyncio.timeout(_LIMIT_S):
                told = await self._write(
                    keys=_keys(checkpoint),
                    args=[
                        *(checkpoint.owner, acked, *limits, checkpoint.speakers),
                        *(checkpoint.n_finals, *finals),
                    ],
                )
        except keys.OUTAGES:
            return
        if told == 0:
            raise Displaced
        checkpoint.is_lost = told < 0
        checkpoint.n_finals += len(finals)
        checkpoint.unstored.clear()
        checkpoint.speakers = ""

    async def drop(self, checkpoint: Checkpoint) -> bool:
        """See that the session cannot be resumed; return False if another connection has it."""
        try:
            async with asyncio.timeout(_LIMIT_S):
                return bool(await self._drop(keys=_keys(checkpoint), args=[checkpoint.owner]))
        except keys.OUTAGES as error:
            log.warning("a session that is over can be resumed for a minute: %s", error)
            return True

    def release(self, checkpoint: Checkpoint) -> None:
        """Forget a checkpoint whose connection is closed: it stays in Redis for a minute."""
        if self._held.get(checkpoint.key) is checkpoint:
            del self._held[checkpoint.key]

    async def close(self) -> None:
        """Disconnect."""
        await self._redis.aclose()


def _key(tenant: str, token: str) -> str:
    """Return the key of a checkpoint: whoever reads it does not learn the token."""
    return "live:checkpoint:" + hashlib.sha256(f"{tenant}\0{token}".encode()).hexdigest()


def _keys(checkpoint: Checkpoint) -> list[str]:
    return [checkpoint.key, f"{checkpoint.key}:finals"]
