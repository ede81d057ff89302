"""What happens to a job, as Server-Sent Events, over as many connections as it takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import httpx
from pydantic import ValidationError

from longhand_sdk.core import CONNECT_S, Core, Patience, is_passing, path_of
from longhand_sdk.flows import Call, Emit, Flow, Open, Pause, Read, Stream
from longhand_sdk.models import TERMINAL, Event, ProgressEvent, SegmentsEvent, StateEvent

SILENCE = httpx.Timeout(45.0, connect=CONNECT_S)
"""A living stream has a comment every 15 s."""
_KINDS: dict[str, type[StateEvent | SegmentsEvent | ProgressEvent]] = {
    "state": StateEvent,
    "segments": SegmentsEvent,
    "progress": ProgressEvent,
}


@dataclass(frozen=True, slots=True)
class Sent:
    """One Server-Sent Event."""

    kind: str
    data: str
    id: str
    """Empty: it has none."""


class Decoder:
    """Puts events together from pieces of a stream's text."""

    def __init__(self) -> None:
        self.retry_s: float | None = None
        """How long to wait before connecting again, as the server says."""
        self._rest = ""
        self._kind, self._data, self._id = "", list[str](), ""

    def feed(self, text: str) -> Iterator[Sent]:
        """Yield the events that this text completes."""
        *lines, self._rest = (self._rest + text).split("\n")
        for ended in lines:
            line = ended.removesuffix("\r")
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                if self._data:
                    yield Sent(self._kind, "\n".join(self._data), self._id)
                self._kind, self._data, self._id = "", [], ""
            elif name == "event":
                self._kind = value
            elif name == "data":
                self._data.append(value)
            elif name == "id":
                self._id = value
            elif name == "retry" and value.isdigit():
                self.retry_s = int(value) / 1000


def events(core: Core, job_id: str, after: str) -> Flow[None]:
    """Emit a job's events until it has ended, each with an id once.

    Raises:
        JobNotFound: there is no such job (any more).
        ConnectionFailed: the server is away for too long.
    """
    last, ended, retry_s, patience = after, False, 2.0, Patience(core)
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        path = path_of("jobs", job_id, "events")
        try:
            opened = yield Open(Call("GET", path, headers=headers, timeout=SILENCE))
            stream, decoder = cast("Stream", opened), Decoder()
            core.has_answered = True
            if stream.response.status_code == httpx.codes.NO_CONTENT:
                return
            if stream.response.status_code != httpx.codes.OK:
                refused = core.refusal(stream.response)
                if not is_passing(refused):
                    raise refused
                yield Pause(patience.pause_s(refused, retry_s))
                continue
            while (text := (yield Read(stream))) is not None:
                patience.end()
                for sent in decoder.feed(text):
                    event = _event(core, sent)
                    if event is None or (sent.id and not _is_after(sent.id, last)):
                        continue
                    last = sent.id or last
                    if isinstance(event, StateEvent):
                        ended = event.state in TERMINAL
                    yield Emit(event)
                retry_s = decoder.retry_s or retry_s
        except httpx.RequestError as error:
            failed = core.failed(error)
            if not core.has_answered:
                raise failed from error
            yield Pause(patience.pause_s(failed, retry_s))
        else:
            if ended:
                return
            # The server has stopped, or something before it ends all streams.
            yield Pause(patience.pause_s(core.foreign(), retry_s))


def _event(core: Core, sent: Sent) -> Event | None:
    """Return a typed event; None of a kind that this version does not know."""
    kind = _KINDS.get(sent.kind)
    if kind is None:
        return None
    try:
        event = kind.model_validate_json(sent.data)
    except ValidationError as error:
        raise core.foreign() from error
    return event.model_copy(update={"id": sent.id}) if sent.id else event


def _is_after(event_id: str, last: str) -> bool:
    return not (event_id.isdigit() and last.isdigit()) or int(event_id) > int(last)
