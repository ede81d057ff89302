"""What is written into Redis for a live request, its answer, and a worker's beat: JSON, and PCM."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from typing import Any

from shared.speech.chunks.hypothesis import hypothesis_from_json, hypothesis_to_json
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest
from shared.speech.speakers.voices import Voice


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and what the worker is to know beside it."""

    request: LiveRequest
    api: str
    """The process that waits for the answer."""
    first: bool = False
    """Whether it is the first partial of its segment."""
    alone: bool = False
    """Whether a worker died that had it in hand, so that it is heard by itself."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and how long ago its engine call began when it was sent."""

    answer: LiveAnswer
    since_call_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker says of itself."""

    worker: str
    model: str
    in_hand: Collection[str] = ()
    """Ids of the requests that it has taken and not answered."""
    suspect: str | None = None
    """The one of them that it hears alone now: if it dies, that one is to blame."""
    capacity: int = 1
    """Live requests that it infers at once."""
    busy_ms: float = 0.0
    """Until it can begin with another one."""
    partial_ms: float = 0.0
    """Mean time from taking a partial to answering it; 0: there was none yet."""
    final_ms: float = 0.0
    stopping: bool = False
    """Whether it takes no more."""
    loaded: bool = True
    """Whether its model is in memory; else it loads it for the next request, and nothing is known
    of how long it takes to answer."""


def encode_ask(ask: Ask) -> bytes:
    """Return all but the PCM."""
    request = asdict(ask.request)
    del request["pcm"]
    return _dump({"request": request, "api": ask.api, "first": ask.first, "alone": ask.alone})


def decode_ask(header: bytes, pcm: bytes) -> Ask:
    """Return what ``encode_ask`` wrote; members that a newer version wrote are left out.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    data = json.loads(header)
    request = _known(LiveRequest, data["request"])
    request["kind"] = LiveKind(request["kind"])
    return Ask(LiveRequest(**request, pcm=pcm), data["api"], data["first"], data["alone"])


def encode_reply(reply: Reply) -> bytes:
    """Return an answer for the API process."""
    answer = {field.name: getattr(reply.answer, field.name) for field in fields(LiveAnswer)}
    if reply.answer.hypothesis is not None:
        answer["hypothesis"] = hypothesis_to_json(reply.answer.hypothesis)
    if reply.answer.voices is not None:
        answer["voices"] = [asdict(voice) for voice in reply.answer.voices]
    return _dump({"answer": answer, "since_call_ms": reply.since_call_ms})


def decode_reply(data: bytes) -> Reply:
    """Return what ``encode_reply`` wrote; raises as ``decode_ask`` does."""
    told = json.loads(data)
    answer = _known(LiveAnswer, told["answer"])
    if answer["hypothesis"] is not None:
        answer["hypothesis"] = hypothesis_from_json(answer["hypothesis"])
    if answer.get("voices") is not None:
        answer["voices"] = tuple(map(_voice, answer["voices"]))
    return Reply(LiveAnswer(**answer), told["since_call_ms"])


def encode_beat(beat: Beat) -> bytes:
    """Return a beat."""
    return _dump(asdict(beat) | {"in_hand": [*beat.in_hand]})


def decode_beat(data: bytes) -> Beat:
    """Return what ``encode_beat`` wrote; raises as ``decode_ask`` does."""
    return Beat(**_known(Beat, json.loads(data)))


def _voice(data: object) -> Voice:
    told = _known(Voice, data)
    turns = tuple((float(start_s), float(end_s)) for start_s, end_s in told["turns"])
    return Voice(tuple(map(float, told["embedding"])), float(told["alone_s"]), turns)


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _known(kind: Any, data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise TypeError(f"expected an object, not {data!r:.100}")
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in data.items() if name in names}
