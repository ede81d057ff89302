"""G.711: the 8-bit samples of telephones, as s16le."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

Law = Literal["mulaw", "alaw"]
"""µ-law in North America and Japan, A-law elsewhere."""


def _mulaw_table() -> npt.NDArray[np.int16]:
    code = ~np.arange(256, dtype=np.int32) & 0xFF  # the bits are sent inverted
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype("<i2")


def _alaw_table() -> npt.NDArray[np.int16]:
    code = np.arange(256, dtype=np.int32) ^ 0x55  # every second bit is sent inverted
    mantissa, exponent = ((code & 0x0F) << 4) + 8, (code & 0x70) >> 4
    magnitude = np.where(exponent > 0, (mantissa + 0x100) << np.maximum(exponent - 1, 0), mantissa)
    return np.where(code & 0x80, magnitude, -magnitude).astype("<i2")


_TABLES: Mapping[Law, npt.NDArray[np.int16]] = {"mulaw": _mulaw_table(), "alaw": _alaw_table()}


def expand(data: bytes, law: Law) -> bytes:
    """Return 8-bit samples as s16le: two bytes for each."""
    return _TABLES[law][np.frombuffer(data, np.uint8)].tobytes()
