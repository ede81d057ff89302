"""How much of the device's memory this process holds."""

import os
import sys
from pathlib import Path


def device_memory_bytes(device: str) -> int | None:
    """Return the bytes held on 'cuda', or resident for 'cpu'; None where nobody can tell.

    On a GPU it is what torch's allocator has reserved. CTranslate2 and ONNX Runtime do not tell,
    and the driver knows processes by the host's ids, which in a container are not ours.
    """
    if device != "cuda":
        return _resident_bytes()
    torch = sys.modules.get("torch")
    # Imported by others, and not computing there: its answer would be 0.
    return int(torch.cuda.memory_reserved()) or None if torch else None


def _resident_bytes() -> int | None:
    """Read proc(5): the second field of statm is the resident set, in pages."""
    statm = Path("/proc/self/statm")
    if not statm.exists():  # not Linux
        return None
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
