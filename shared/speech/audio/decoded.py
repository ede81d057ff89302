"""What a decoder tells the process that it decodes for: records on a socket.

A record is ``HEADER``, which has its kind and the length of what follows, and so many bytes. A
decoder reads strangers' files, so who reads records trusts nothing in them.
"""

import struct
from enum import IntEnum

HEADER = struct.Struct("<BI")
COUNT = struct.Struct("<Q")
RANGE = struct.Struct("<QI")

MAX_RECORD_BYTES = 1 << 20


class Kind(IntEnum):
    """What a record tells."""

    PCM = 1
    """Of a stream: s16le, mono, at ``shared.speech.audio.rate.SAMPLE_RATE``."""
    CONSUMED = 2
    """Of a stream: ``COUNT`` bytes of it have their audio in the records before this one."""
    UNREADABLE = 3
    """The stream cannot be decoded: why, in UTF-8. Nothing follows."""
    END = 4
    """The stream has ended, and all of its audio is told. Nothing follows."""
    READ = 5
    """``RANGE``: the offset and the number of the file's bytes that the decoder wants."""
    AUDIO = 6
    """Of a file: a line of JSON, then s16le samples, channel by channel."""
    DONE = 7
    """The file has ended; JSON. Nothing follows."""
    REFUSED = 8
    """The file cannot be decoded; JSON. Nothing follows."""
    BUG = 9
    """The decoder met an unexpected error; JSON. Nothing follows."""
    DIED = 10
    """A signal has ended the decoder; its number in one byte. Nothing follows."""


def encode_record(kind: Kind, data: bytes = b"") -> bytes:
    """Return a record."""
    return HEADER.pack(kind, len(data)) + data
