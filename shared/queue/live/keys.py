"""Keys in Redis of live requests, and the scripts that change several of them at once.

A request lies in a *slot*, one for each segment and kind, with its audio. A *ticket* in a list says
that there is something in a slot. A worker takes a ticket and then whatever is in its slot, so it
always hears the newest audio, and no list is longer than there are people who speak. Answers are in
a list for each API process. Nothing lasts: whoever sent a request keeps it until it is answered.
"""

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from shared.infra.settings import Settings
from shared.speech.live.requests import LiveKind

PARTIAL_TTL_S = 3.0
"""How long a partial waits in its slot: what is older is of no use."""
FINAL_TTL_S = 30.0
"""The same for a final, which is sent again meanwhile."""
TICKETS_TTL_S = 60
REPLIES_TTL_S = 60
BEAT_S = 0.25
"""How often a worker says that it lives, and what it has in hand."""
SILENT_S = 0.75
"""A worker that misses beats for so long may be dead: its finals are sent to others as well."""
BEAT_TTL_S = 10.0
"""How long a worker counts as there after a beat: engines may hold the interpreter for seconds."""
SPEECH_TTL_S = 1.5

WORKERS = "live:workers"
"""Set of the workers that take live requests; those without a beat are not there any more."""

CONNECT_TIMEOUT_S = 0.5
SEND_TIMEOUT_S = 0.5
"""Together with the above one second: the longest that a sender waits for Redis."""
POP_S = 1.0
"""How long one blocking pop waits."""
POP_TIMEOUT_S = 3.0
OUTAGES = (redis.RedisError, OSError, TimeoutError)
"""What calls raise while Redis is away."""

SUBMIT = """
-- KEYS: slot, tickets, speech.
-- ARGV: ticket, id, header, pcm, milliseconds the slot lasts, '1' if sent again,
--       seconds the tickets last, milliseconds that speech lasts.
-- Returns the id of the request that is superseded, if one is: the slot's former one, or this one
-- if it is sent again and the slot has a newer one.
local held = redis.call('HGET', KEYS[1], 'id')
local again = ARGV[6] == '1'
if held and held ~= ARGV[2] and again then
    return ARGV[2]
end
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'header', ARGV[3], 'pcm', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if not redis.call('LPOS', KEYS[2], ARGV[1]) then
    redis.call(again and 'LPUSH' or 'RPUSH', KEYS[2], ARGV[1])
end
redis.call('EXPIRE', KEYS[2], ARGV[7])
redis.call('SET', KEYS[3], '', 'PX', ARGV[8])
if held and held ~= ARGV[2] then
    return held
end
return false
"""

TAKE = """
-- KEYS: tickets of finals, tickets of partials.
-- ARGV: how many, beginnings of the keys of their slots (finals, partials), and a ticket that was
--       popped already, with the number of its list.
-- Returns header, pcm, header, pcm ...
local taken = {}
local most = 2 * tonumber(ARGV[1])
local function take(list, ticket)
    local slot = ARGV[1 + list] .. ticket
    local held = redis.call('HMGET', slot, 'header', 'pcm')
    if held[1] then
        redis.call('DEL', slot)
        taken[#taken + 1] = held[1]
        taken[#taken + 1] = held[2]
    end
end
take(tonumber(ARGV[5]), ARGV[4])
for list = 1, 2 do
    while #taken < most do
        local ticket = redis.call('LPOP', KEYS[list])
        if not ticket then
            break
        end
        take(list, ticket)
    end
end
return taken
"""


def tickets(model: str, kind: LiveKind) -> str:
    """Return the key of a model's list of tickets."""
    return f"live:{model}:{kind}"


def slots(kind: LiveKind) -> str:
    """Return what the keys of slots begin with; the ticket follows."""
    return f"live:slot:{kind}:"


def replies(api: str) -> str:
    """Return the key of the answers to an API process."""
    return f"live:reply:{api}"


def beat(worker: str) -> str:
    """Return the key of a worker's last beat."""
    return f"live:w:{worker}"


def speech(model: str) -> str:
    """Return the key that is there while somebody speaks to a model."""
    return f"live:{model}:speech"


def connect(settings: Settings, *, pops: bool = False) -> redis.Redis:
    """Return a client for threads, whose calls raise ``redis.RedisError`` in time.

    One that ``pops`` has the time that a blocking pop takes.
    """
    return redis.Redis.from_url(
        settings.broker_url.get_secret_value(),
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=POP_TIMEOUT_S if pops else SEND_TIMEOUT_S,
        retry=None,
    )


def connect_async(settings: Settings, *, pops: bool = False) -> Any:
    """Return a client for one event loop, whose calls raise an error of ``OUTAGES`` in time.

    No command is sent twice.
    """
    return redis.asyncio.Redis.from_url(
        settings.broker_url.get_secret_value(),
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=POP_TIMEOUT_S if pops else SEND_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
