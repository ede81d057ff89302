"""A WAV that holds what the models hear, mono PCM of 16 kHz and 16 bits, needs no decoder.

Its samples are the file's own bytes: no code of FFmpeg meets them, so no process apart is needed
(``sandbox``). Whatever is unusual about a file is left to the decoder.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Channels
from worker.media.findings import Findings

_SAMPLE_BYTES = 2
_FORM = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, _SAMPLE_BYTES * SAMPLE_RATE, _SAMPLE_BYTES, 16)
"""PCM, one channel, samples and bytes a second, bytes a frame, bits a sample."""
_HEADER_BYTES = 4_096
"""Most bytes before the sound: room for the tags that programs write there."""


def plain_samples(source: BinaryIO, n_bytes: int) -> tuple[int, int] | None:
    """Return where the samples of a plain WAV of ``n_bytes`` start and how many there are.

    None if it is anything else. Errors that ``source`` raises are passed on.
    """
    source.seek(0)
    head = source.read(min(n_bytes, _HEADER_BYTES))
    is_whole = int.from_bytes(head[4:8], "little") == n_bytes - 8
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE" or not is_whole:
        return None
    form, at = b"", 12
    while at + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, at)
        at += 8
        if name == b"data":
            is_plain = form == _FORM and size > 0 and at + size == n_bytes
            return (at, size // _SAMPLE_BYTES) if is_plain and not size % _SAMPLE_BYTES else None
        if name == b"fmt ":
            form += head[at : at + size]
        elif name != b"LIST":
            return None
        at += size + size % 2
    return None


def read_plain(
    source: BinaryIO, start: int, n_samples: int, findings: Findings
) -> Iterator[Channels]:
    """Yield the samples from byte ``start`` on, as ``decode`` does: blocks of a second each."""
    findings.times.known_until = n_samples
    source.seek(start)
    left = n_samples
    while left:
        data = source.read(_SAMPLE_BYTES * min(left, SAMPLE_RATE))
        if not data:
            raise EOFError("the stored file is shorter than it was when its header was read")
        block = np.frombuffer(data, "<i2")
        left -= len(block)
        findings.read_bytes = start + _SAMPLE_BYTES * (n_samples - left)
        yield block[np.newaxis]
