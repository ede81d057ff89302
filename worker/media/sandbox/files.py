"""A decoder of one file: the bytes that it asks for come in, records go out."""

import io
import json
import socket
import struct
import traceback
from collections.abc import Mapping
from typing import Any, BinaryIO, cast

from shared.infra.errors import MediaError, PoisonousInput
from shared.speech.audio.decoded import HEADER, RANGE, Kind, encode_record
from shared.speech.audio.samples import Channels
from worker.media.decode import decode
from worker.media.findings import Findings
from worker.media.sandbox.confinement import allow_cpu, allow_memory

READ_BYTES = 1 << 20
"""Most bytes of the file that the decoder asks for at once. A file of no more comes as a whole."""
STEP_CPU_S = 60
"""Most processor time between two blocks of audio or reads of the file; then it hangs."""
MAX_ANCHORS = 10_000
"""So many anchors of the time map are kept, for the places that warnings name."""
_WARM_UP_HZ = 44_100
_MAX_TRACEBACK_CHARS = 8_000


def decode_file(connection: socket.socket, order: Mapping[str, Any]) -> None:
    """Decode the file that an order describes.

    Raises:
        OSError: nobody reads what is decoded.
    """
    allow_memory(order["memory_bytes"])
    allow_cpu(STEP_CPU_S, order["cpu_s"])
    teller = _Teller(connection)
    try:
        _decode_file(connection, order, teller)
    except MediaError as error:
        teller.tell(Kind.REFUSED, {"code": error.code, "detail": str(error)})
    except MemoryError:
        detail = "decoding the file takes more memory than LONGHAND_PREPARE_MEMORY_BYTES allows"
        teller.tell(Kind.REFUSED, {"code": PoisonousInput.code, "detail": detail})
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a bug, which the worker logs
        place = traceback.extract_tb(error.__traceback__)[-1]
        bug = {
            "name": f"{type(error).__name__} at {place.name}:{place.lineno}",
            "traceback": traceback.format_exc()[-_MAX_TRACEBACK_CHARS:],
        }
        teller.tell(Kind.BUG, bug)


def warm_up() -> None:
    """Decode a tenth of a second of silence, which takes what each first decoding takes longer.

    In a forked process that is mostly to copy the memory that decoding writes to.
    """
    pcm = bytes(4 * _WARM_UP_HZ // 10)
    form = struct.pack("<HHIIHH", 1, 2, _WARM_UP_HZ, 4 * _WARM_UP_HZ, 4, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", len(pcm)) + pcm
    for _ in decode(io.BytesIO(b"RIFF" + struct.pack("<I", len(body)) + body), 1.0):
        pass


def _decode_file(connection: socket.socket, order: Mapping[str, Any], teller: "_Teller") -> None:
    n_bytes: int = order["bytes"]
    source: BinaryIO
    if n_bytes <= READ_BYTES:
        source = io.BytesIO(receive(connection, n_bytes))
    else:
        source = io.BufferedReader(cast(io.RawIOBase, _Source(connection, n_bytes)), READ_BYTES)
    findings = Findings()
    blocks = decode(
        source,
        order["max_duration_s"],
        apart=order["apart"],
        track=order["track"],
        strict=order["strict"],
        findings=findings,
    )
    for block in blocks:
        teller.tell_audio(block, findings, source.tell())
        allow_cpu(STEP_CPU_S)
    warnings = [each._asdict() for each in findings.warnings]
    teller.tell(Kind.DONE, {**teller.new_times(findings), "warnings": warnings})


def receive(connection: socket.socket, n_bytes: int) -> bytes:
    """Return so many bytes.

    Raises:
        OSError: there are fewer.
    """
    data = bytearray(n_bytes)
    receive_into(connection, memoryview(data))
    return bytes(data)


def receive_into(connection: socket.socket, buffer: memoryview) -> None:
    """Fill a buffer.

    Raises:
        OSError: there are too few bytes.
    """
    n_read = 0
    while n_read < len(buffer):
        n = connection.recv_into(buffer[n_read:])
        if not n:
            raise ConnectionResetError
        n_read += n


class _Source(io.RawIOBase):
    """A file that the worker reads. It sends as many bytes as there are of those asked for."""

    def __init__(self, connection: socket.socket, n_bytes: int) -> None:
        self._connection = connection
        self._n_bytes = n_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._n_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), READ_BYTES, self._n_bytes - self._at)
        if wanted <= 0:
            return 0
        allow_cpu(STEP_CPU_S)
        self._connection.sendall(encode_record(Kind.READ, RANGE.pack(self._at, wanted)))
        n_read = int.from_bytes(receive(self._connection, 4), "little")
        if n_read > wanted:
            raise ConnectionResetError
        receive_into(self._connection, buffer[:n_read])
        self._at += n_read
        return n_read


class _Teller:
    """Writes records. Of the time map it tells what is new."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._n_told = 0
        """How many of the map's first anchors are told."""

    def tell(self, kind: Kind, facts: Mapping[str, Any], samples: bytes = b"") -> None:
        line = json.dumps(facts).encode() + b"\n"
        head = HEADER.pack(kind, len(line) + len(samples))
        self._connection.sendall(b"".join((head, line, samples)))

    def tell_audio(self, block: Channels, findings: Findings, at_byte: int) -> None:
        facts = {"channels": len(block), "at": at_byte, **self.new_times(findings)}
        self.tell(Kind.AUDIO, facts, block.astype("<i2", copy=False).tobytes())

    def new_times(self, findings: Findings) -> dict[str, Any]:
        # The map is another one for each track that is tried, but only one track is heard.
        times = findings.times
        new = times.anchors[self._n_told :]
        if len(times.anchors) > 2 * MAX_ANCHORS:
            times.forget_before(times.anchors[-MAX_ANCHORS][0])
        self._n_told = len(times.anchors)
        return {"anchors": new, "known_until": times.known_until}
