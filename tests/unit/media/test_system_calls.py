"""The numbers of system calls that decoders may make are those of the kernel's headers."""

import re
from pathlib import Path

import pytest

from worker.media.sandbox import seccomp

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", HEADERS)
def test_each_number_is_that_of_the_system_call(machine: str) -> None:
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())
    numbers = {name: int(number) for name, number in defined}
    table = seccomp._TABLES[machine]
    mmap, mprotect = table.map_memory
    used = {
        **table.allowed,
        **table.killed,
        "mmap": mmap,
        "mprotect": mprotect,
        "prlimit64": table.prlimit64,
        "tgkill": table.tgkill,
    }

    assert len(used) > 55
    assert used == {name: numbers[name] for name in used}
