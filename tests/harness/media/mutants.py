"""Damaged media by the hundred, decoded in a process of their own: ``mutants.py 0 9``.

Each mutant is an exact function of its number. A line per mutant says what became of it; the
process ends, by an exception or a signal, at the first that neither decodes nor is refused with a
``MediaError``, or that takes more processor time or memory than a file may.
"""

import io
import resource
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

if __name__ == "__main__":  # as a program it has no pytest to find the tree for it
    sys.path[:0] = [str(path) for path in Path(__file__).parents[2:4]]

from harness.media.recipes import KINDS, encode, noise
from shared.infra.errors import MediaError
from worker.media.decode import decode

CPU_LIMIT_S = 10.0
MEMORY_LIMIT_BYTES = 1 << 30
MAX_DURATION_S = 60

LENGTH_FIELDS = (
    *(b"RIFF", b"fmt ", b"data", b"ds64", b"fact", b"COMM", b"SSND", b"desc", b"pakt", b"kuki"),
    *(b"ftyp", b"moov", b"trak", b"mdia", b"stbl", b"stsd", b"stts", b"stsc", b"stsz", b"stco"),
    *(b"esds", b"elst", b"moof", b"traf", b"trun", b"mdat", b"OggS", b"fLaC", b"LAME", b"Info"),
)
"""Names that a length or a count stands beside."""
ABSURD = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)


def flip_bits(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 60))):
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))


def damage_the_header(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 12))):
        data[rng.integers(min(len(data), 400))] = int(rng.integers(256))


def truncate(data: bytearray, rng: np.random.Generator) -> None:
    del data[rng.integers(len(data)) :]


def drop_a_piece(data: bytearray, rng: np.random.Generator) -> None:
    start, end = sorted(rng.integers(len(data), size=2))
    del data[start:end]


def swap_blocks(data: bytearray, rng: np.random.Generator) -> None:
    size = int(rng.integers(4, max(5, len(data) // 4)))
    a, b = (int(at) for at in rng.integers(len(data) - size, size=2))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def lie_about_lengths(data: bytearray, rng: np.random.Generator) -> None:
    places = [at for name in LENGTH_FIELDS if (at := data.find(name)) >= 0]
    for _ in range(int(rng.integers(1, 4))):
        field = int(rng.choice(places or [0])) + int(rng.choice([-4, 4, 8, 12]))
        order = "little" if rng.integers(2) else "big"
        if 0 <= field <= len(data) - 4:
            data[field : field + 4] = int(rng.choice(ABSURD)).to_bytes(4, order)


MUTATIONS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    *(flip_bits, damage_the_header, truncate, drop_a_piece, swap_blocks, lie_about_lengths),
)


@cache
def original(name: str) -> bytes:
    """One second of a kind of file."""
    kind = KINDS[name]
    return encode(name, np.tile(noise(1, kind.rate), (kind.n_channels, 1)))


def describe(number: int) -> str:
    name = list(KINDS)[number % len(KINDS)]
    return f"{number}: {name}, {MUTATIONS[number % len(MUTATIONS)].__name__}"


def make(number: int) -> bytes:
    """The mutant: kinds and mutations in turn, the rest by a generator seeded with the number."""
    data = bytearray(original(list(KINDS)[number % len(KINDS)]))
    MUTATIONS[number % len(MUTATIONS)](data, np.random.default_rng(number))
    return bytes(data)


def judge(number: int) -> str:
    """Decode the mutant, every third channel by channel; return 'audio' or the error's name."""
    blocks = decode(io.BytesIO(make(number)), MAX_DURATION_S, apart=number % 3 == 0)
    try:
        n_samples = sum(block.shape[1] for block in blocks)
    except MediaError as error:
        return type(error).__name__
    assert n_samples > 0
    return "audio"


def main(first: int, last: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    for number in range(first, last):
        sys.stdout.write(f"{describe(number)} -> ")
        sys.stdout.flush()
        # Left to its default, the signal ends native code as well: a hang ends, and is seen.
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
        sys.stdout.write(f"{judge(number)}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
