"""The worker's side of a decoder: it reads the file for it and checks what it tells.

A file that has taken a decoder over may tell anything. So nothing is unpickled, every number is
bounded, and what is not as it should be counts as the file's fault.
"""

import io
import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from signal import Signals
from typing import Any, BinaryIO

import numpy as np

from shared.infra.decoder_server import DecoderServer
from shared.infra.errors import (
    AudioOutOfBounds,
    AudioTooLong,
    LonghandError,
    NoAudioTrack,
    PoisonousInput,
    TruncatedMedia,
    UnreadableMedia,
)
from shared.speech.audio.decoded import HEADER, MAX_RECORD_BYTES, RANGE, Kind
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Channels
from worker.media.errors import DecoderBug
from worker.media.findings import Findings, Warned

log = logging.getLogger(__name__)

INLINE_BYTES = READ_BYTES = 1 << 20
"""A file of no more bytes is sent with the order; of others no more are asked for at once."""
_BLOCK_SAMPLES = SAMPLE_RATE
_MAX_CHANNELS = 8
_MAX_TIME = 1 << 40
"""In samples: two years."""
_MAX_ANCHORS = 20_000
_MAX_ANCHORS_KEPT = 100_000
_MAX_WARNINGS = 100
_MAX_TEXT = 2_000
_REFUSALS: dict[str, type[LonghandError]] = {
    kind.code: kind
    for kind in (UnreadableMedia, TruncatedMedia, NoAudioTrack, AudioTooLong, AudioOutOfBounds)
} | {PoisonousInput.code: PoisonousInput}


@dataclass(frozen=True, slots=True)
class Limits:
    """What decoding a file may take."""

    audio_s: float
    """Of the decoded audio, whatever the header declares."""
    wall_s: float
    """From the order to the last block; also the most processor time."""
    memory_bytes: int
    """Of the decoder's own."""


def decode(
    server: DecoderServer,
    source: BinaryIO,
    limits: Limits,
    *,
    apart: bool = False,
    track: str | None = None,
    strict: bool = False,
    findings: Findings | None = None,
) -> Iterator[Channels]:
    """Do what ``worker.media.decode.decode`` does, in a process without any rights.

    The samples cannot be written to.

    Raises:
        MediaError: as there.
        PoisonousInput: the decoder died, took too long or too much memory, or told nonsense.
        NoDecoder: there is no decoder.
        DecoderBug: a bug of ours.
    """
    deadline = time.monotonic() + limits.wall_s
    n_bytes = source.seek(0, io.SEEK_END)
    source.seek(0)
    inline = source.read(n_bytes) if n_bytes <= INLINE_BYTES else b""
    n_bytes = len(inline) or n_bytes
    connection = server.open(
        {
            "kind": "file",
            "bytes": n_bytes,
            "max_duration_s": limits.audio_s,
            "memory_bytes": limits.memory_bytes,
            "cpu_s": max(1, int(limits.wall_s)),
            "apart": apart,
            "track": track,
            "strict": strict,
        }
    )
    conversation = _Conversation(
        connection, source, n_bytes, limits.audio_s, findings or Findings(), deadline
    )
    with closing(conversation):
        conversation.send(inline)
        yield from conversation.blocks()


class _Timed(io.RawIOBase):
    """What comes from a decoder up to a deadline, however slowly it comes."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if (left_s := self._deadline - time.monotonic()) <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


class _Nonsense(ValueError):
    """A decoder told what none of ours tells."""


class _Conversation:
    """Answers a decoder and takes in what it tells."""

    def __init__(
        self,
        connection: socket.socket,
        source: BinaryIO,
        n_bytes: int,
        audio_s: float,
        findings: Findings,
        deadline: float,
    ) -> None:
        self._connection = connection
        self._records = io.BufferedReader(_Timed(connection, deadline), 1 << 18)
        self._source, self._n_bytes = source, n_bytes
        self._findings = findings
        self._deadline = deadline
        self._most_samples = (int(audio_s) + 2) * SAMPLE_RATE
        self._n_samples = self._n_channels = 0

    def blocks(self) -> Iterator[Channels]:
        """Yield the blocks up to the file's end."""
        while True:
            kind, data = self._record()
            try:
                match kind:
                    case Kind.AUDIO:
                        block = self._block(data)
                    case Kind.READ:
                        wanted = self._wanted(data)
                    case Kind.DONE:
                        self._finish(_parsed(data))
                        return
                    case Kind.REFUSED:
                        error: Exception = _refusal(_parsed(data))
                    case Kind.BUG:
                        error = _bug(_parsed(data))
                    case Kind.DIED:
                        error = _death(data)
                    case _:
                        raise _Nonsense("kind")
            except (ValueError, TypeError, KeyError, RecursionError) as nonsense:
                log.warning("a decoder told nonsense: %s", type(nonsense).__name__)
                raise _nonsense() from nonsense
            if kind == Kind.AUDIO:
                yield block
            elif kind == Kind.READ:
                self._read(*wanted)
            else:
                raise error

    def send(self, data: bytes) -> None:
        """Send bytes of the file."""
        # A decoder that has died has told so, or the end of its records does.
        with suppress(OSError):
            self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
            self._connection.sendall(data)

    def close(self) -> None:
        """Leave the decoder, which ends then."""
        self._records.close()
        self._connection.close()

    def _record(self) -> tuple[int, bytes]:
        try:
            head = self._records.read(HEADER.size)
            kind, size = HEADER.unpack(head) if len(head) == HEADER.size else (Kind.DIED, 0)
            if size > MAX_RECORD_BYTES:
                raise _nonsense()
            data = self._records.read(size)
        except TimeoutError as error:
            raise _hang() from error
        except ConnectionResetError:
            return Kind.DIED, b""
        return (kind, data) if len(data) == size else (Kind.DIED, b"")

    def _wanted(self, data: bytes) -> tuple[int, int]:
        if len(data) != RANGE.size:
            raise _Nonsense("range")
        offset, n_bytes = RANGE.unpack(data)
        if not 0 < n_bytes <= READ_BYTES or offset + n_bytes > self._n_bytes:
            raise _Nonsense("range")
        return offset, n_bytes

    def _read(self, offset: int, n_bytes: int) -> None:
        self._source.seek(offset)
        data = self._source.read(n_bytes)
        self.send(len(data).to_bytes(4, "little") + data)

    def _block(self, data: bytes) -> Channels:
        start = data.index(b"\n") + 1
        facts = _parsed(data[:start])
        n_channels = _integer(facts["channels"], 1, _MAX_CHANNELS)
        n_samples, rest = divmod(len(data) - start, 2 * n_channels)
        if rest or not 0 < n_samples <= _BLOCK_SAMPLES:
            raise _Nonsense("length")
        if self._n_channels not in (0, n_channels):
            raise _Nonsense("channels")
        self._n_channels = n_channels
        self._n_samples += n_samples
        if self._n_samples > self._most_samples:
            raise _Nonsense("duration")
        self._findings.read_bytes = _integer(facts["at"], 0, self._n_bytes)
        self._note_times(facts)
        samples = np.frombuffer(data, "<i2", offset=start)
        block: Channels = samples.reshape(n_channels, n_samples)
        return block

    def _note_times(self, facts: dict[str, Any]) -> None:
        anchors = facts["anchors"]
        if not isinstance(anchors, list) or len(anchors) > _MAX_ANCHORS:
            raise _Nonsense("anchors")
        times = self._findings.times
        for sample, at in anchors:
            times.add(_integer(sample, 0, _MAX_TIME), _integer(at, -_MAX_TIME, _MAX_TIME))
        if len(times.anchors) > _MAX_ANCHORS_KEPT:  # who reads forgets what is in no chunk to come
            raise _Nonsense("anchors")
        times.known_until = _integer(facts["known_until"], 0, _MAX_TIME)

    def _finish(self, facts: dict[str, Any]) -> None:
        warnings = facts["warnings"]
        if not self._n_samples or not isinstance(warnings, list) or len(warnings) > _MAX_WARNINGS:
            raise _Nonsense("end")
        self._note_times(facts)
        self._findings.warnings[:] = [
            Warned(_code(each["code"]), _text(each["detail"])) for each in warnings
        ]


def _parsed(line: bytes) -> dict[str, Any]:
    facts = json.loads(line)
    if not isinstance(facts, dict):
        raise _Nonsense("facts")
    return facts


def _integer(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise _Nonsense("number")
    return value


def _code(value: object) -> str:
    if not isinstance(value, str) or len(value) > 40 or not value.replace("_", "").isalpha():
        raise _Nonsense("code")
    return value


def _text(value: object, most: int = _MAX_TEXT) -> str:
    """Return a text without what moves a terminal's cursor or begins a line of a log."""
    if not isinstance(value, str):
        raise _Nonsense("text")
    return "".join(each if each.isprintable() else "\ufffd" for each in value[:most])


def _refusal(facts: dict[str, Any]) -> LonghandError:
    return _REFUSALS[_code(facts["code"])](_text(facts["detail"]))


def _bug(facts: dict[str, Any]) -> DecoderBug:
    name, lines = _text(facts["name"], 100), facts["traceback"]
    if not isinstance(lines, str):
        raise _Nonsense("traceback")
    log.error(
        "a decoder met an unexpected error\n%s",
        "\n".join(f"    {_text(line)}" for line in lines.splitlines()[:100]),
    )
    return DecoderBug(name)


def _death(data: bytes) -> PoisonousInput:
    """Return the error of a decoder that has died, of a signal if that is known."""
    known = {each.value: each.name for each in Signals}
    cause = known.get(data[0], "a signal") if data else "an unknown cause"
    log.warning("a decoder died of %s", cause)
    return PoisonousInput(f"the process that decodes the file died of {cause}")


def _hang() -> PoisonousInput:
    return PoisonousInput("decoding the file takes longer than LONGHAND_PREPARE_LIMIT_S")


def _nonsense() -> PoisonousInput:
    return PoisonousInput("the process that decodes the file was taken over by it, and ended")
