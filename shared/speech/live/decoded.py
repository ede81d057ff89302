"""What a decoder of live audio tells an API process: records on a socket.

A record is ``HEADER``, which has its kind and the length of what follows, and so many bytes.
"""

import struct
from enum import IntEnum

HEADER = struct.Struct("<BI")
COUNT = struct.Struct("<Q")

MAX_RECORD_BYTES = 1 << 20


class Kind(IntEnum):
    """What a record tells."""

    PCM = 1
    """Audio: s16le, mono, at ``shared.speech.chunks.SAMPLE_RATE``."""
    CONSUMED = 2
    """``COUNT``: bytes of the stream whose audio is in the records before this one."""
    UNREADABLE = 3
    """The stream cannot be decoded: why, in UTF-8. Nothing follows."""
    END = 4
    """The stream has ended, and all of its audio is told. Nothing follows."""


def encode_record(kind: Kind, data: bytes = b"") -> bytes:
    """Return a record."""
    return HEADER.pack(kind, len(data)) + data
