"""What an API process frees goes back to the system."""

import ctypes
import multiprocessing
from multiprocessing.connection import Connection

import psutil
import pytest

from api.allocator import bound_allocator

PART, N_PARTS = 8 << 20, 16
libc = ctypes.CDLL(None)


def free_parts(told: Connection) -> None:
    """Tell how much memory stays when parts are freed below a block that is still in use."""
    bound_allocator()
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    libc.free(libc.malloc(2 * PART))  # from now on glibc would take parts from its heap
    before = psutil.Process().memory_info().rss
    parts = [libc.malloc(PART) for _ in range(N_PARTS)]
    for part in parts:
        ctypes.memset(part, 1, PART)
    held = libc.malloc(1 << 19)
    full = psutil.Process().memory_info().rss
    for part in parts:
        libc.free(part)
    told.send((full - before, psutil.Process().memory_info().rss - before))
    libc.free(held)


@pytest.mark.skipif(not hasattr(libc, "mallopt"), reason="the C library has no such settings")
def test_what_uploads_took_is_given_back() -> None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("forkserver").Process(target=free_parts, args=(there,))
    process.start()
    assert here.poll(60)
    taken, kept = here.recv()
    process.join()

    assert taken > (N_PARTS - 1) * PART
    assert kept < PART
