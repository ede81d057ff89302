"""The device memory that this process holds, and giving back what it no longer needs."""

import ctypes
import gc
import os
import sys
from pathlib import Path


def device_memory_bytes(device: str) -> int | None:
    """Return the bytes held on 'cuda', or the resident set for 'cpu'; None where it is not known.

    On a GPU it is what torch's allocator has reserved. CTranslate2 and ONNX Runtime do not expose
    theirs, and the driver lists processes by the host's ids, which containers do not know.
    """
    if device != "cuda":
        return _resident_bytes()
    torch = sys.modules.get("torch")
    # 0 means that another library computes on the GPU.
    return int(torch.cuda.memory_reserved()) or None if torch else None


def _resident_bytes() -> int | None:
    """Read proc(5): the second field of statm is the resident set, in pages."""
    statm = Path("/proc/self/statm")
    if not statm.exists():  # not Linux
        return None
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def give_back_memory() -> None:
    """Return to the system, and to the GPU, what engines that were dropped have left behind.

    Networks refer to themselves, so the collector must free them. torch keeps freed blocks of the
    GPU for its next tensors, and glibc those of main memory.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)
