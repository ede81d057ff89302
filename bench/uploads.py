"""How fast a large file gets into the object store through the API, against sent there directly."""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import boto3
import httpx
import psutil
from botocore.config import Config

from bench.platform import ROOT
from cli.embedded.servers import Endpoints, running_servers

FILE_BYTES = 384 * 1024**2
ROUNDS = 5
"""Taken in turns, so that whatever else the machine does slows both down."""
READ_BYTES = 256 * 1024
BOUNDARY = "longhand"


def run() -> None:
    """Print MB/s both ways, the ratio, and the memory that the API needed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "audio.bin"
        with file.open("wb") as output:
            for _ in range(FILE_BYTES // 2**20):
                output.write(os.urandom(2**20))
        with running_servers(Path(folder) / "data") as endpoints, api(endpoints) as (url, process):
            send_through_the_api(file, url)  # what is loaded late is loaded now
            idle = process.memory_info().rss
            direct_s, through_s = [], []
            for _ in range(ROUNDS):
                direct_s.append(send_to_s3(file, endpoints.storage_url))
                through_s.append(send_through_the_api(file, url))
            peak = int(
                Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1].split()[0]
            )
    for what, took_s in (("to S3 directly", direct_s), ("through the API", through_s)):
        rates = [FILE_BYTES / 1e6 / each for each in took_s]
        print(
            f"{what:<20}{statistics.median(rates):>6.0f} MB/s ({min(rates):.0f}-{max(rates):.0f})"
        )
    ratios = [direct / through for direct, through in zip(direct_s, through_s, strict=True)]
    print(
        f"{FILE_BYTES // 2**20} MiB: ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f}-{max(ratios):.2f}), API idle {idle >> 20} MiB, peak {peak >> 10} MiB"
    )


@contextmanager
def api(endpoints: Endpoints) -> Iterator[tuple[str, psutil.Process]]:
    """Run an API process beside the servers; jobs for the oracle are taken without a worker."""
    variables = {"LONGHAND_DEFAULT_MODEL": "oracle", "LONGHAND_ON_DEMAND_MODELS": "oracle"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "--fd", str(fd)],
            cwd=ROOT,
            env=os.environ | endpoints.env() | variables | {"LONGHAND_LOG_LEVEL": "ERROR"},
            pass_fds=[fd],
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def send_through_the_api(file: Path, url: str) -> float:
    """Return the seconds until the job of the file is accepted."""
    head = (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=file; filename=audio.bin\r\n\r\n"
    ).encode()
    end = f"\r\n--{BOUNDARY}--\r\n".encode()

    def body() -> Iterator[bytes]:
        yield head
        with file.open("rb") as source:
            while data := source.read(READ_BYTES):
                yield data
        yield end

    began = time.monotonic()
    answer = httpx.post(
        f"{url}/jobs",
        content=body(),
        headers={
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "Content-Length": str(len(head) + file.stat().st_size + len(end)),
        },
        timeout=120,
    )
    answer.raise_for_status()
    took_s = time.monotonic() - began
    httpx.delete(url + answer.headers["location"], timeout=60).raise_for_status()
    return took_s


def send_to_s3(file: Path, storage_url: str) -> float:
    """Return the seconds that boto3 takes to upload the file, with its usual parts and threads."""
    parts = urlsplit(storage_url)
    bucket = parts.path.strip("/")
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=f"{parts.scheme}://{parts.hostname}:{parts.port}",
        region_name="us-east-1",
        aws_access_key_id=unquote(parts.username or ""),
        aws_secret_access_key=unquote(parts.password or ""),
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    began = time.monotonic()
    client.upload_file(str(file), bucket, "bench/direct")
    took_s = time.monotonic() - began
    client.delete_object(Bucket=bucket, Key="bench/direct")
    return took_s
