"""How fast a large file gets in by each way, against sent to the object store directly by boto3."""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import httpx
import psutil
from botocore.config import Config

from bench.platform import ROOT
from cli.embedded.servers import Endpoints, running_servers

FILE_BYTES = 2048 * 1024**2
ROUNDS = 3
"""Taken in turns, so that whatever else the machine does slows all ways down."""
READ_BYTES = 256 * 1024
BOUNDARY = "------------------------d74496d66958873e"
"""Of a form, as long as curl's: short ones take longer to look for."""
PARTS_AT_ONCE = 4
"""Of a client that sends parts to presigned URLs; boto3 sends up to ten."""


@dataclass
class Measured:
    """What one way took, round by round."""

    sent_s: list[float] = field(default_factory=list)
    """Until the last byte was taken."""
    ready_s: list[float] = field(default_factory=list)
    """Until the file could be transcribed: its size and SHA-256 checked."""
    growth_bytes: list[int] = field(default_factory=list)
    """Of the API's memory, at most, meanwhile."""


def run() -> None:
    """Print MB/s of each way, their ratios to boto3's, and how the API's memory grew."""
    ways: Mapping[str, Callable[[Path, str], tuple[float, float]]] = {
        "POST /jobs": send_form,
        "presigned parts": send_parts,
        "tus": send_tus,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "audio.bin"
        with file.open("wb") as output:
            for _ in range(FILE_BYTES // 2**20):
                output.write(os.urandom(2**20))
        warm_up = Path(folder) / "short.bin"
        warm_up.write_bytes(os.urandom(16 * 2**20))
        with running_servers(Path(folder) / "data") as endpoints, api(endpoints) as (url, process):
            for send in ways.values():
                send(warm_up, url)  # what is loaded late is loaded now
            direct_s = []
            measured = {name: Measured() for name in ways}
            for _ in range(ROUNDS):
                direct_s.append(send_to_s3(file, endpoints.storage_url))
                for name, send in ways.items():
                    before = reset_peak(process)
                    sent_s, ready_s = send(file, url)
                    measured[name].sent_s.append(sent_s)
                    measured[name].ready_s.append(ready_s)
                    measured[name].growth_bytes.append(peak(process) - before)
    print(f"{FILE_BYTES // 2**20} MiB; ratios are to boto3 in the same round")
    print(f"{'boto3 to S3':<18}{speed(direct_s)}")
    for name, each in measured.items():
        print(
            f"{name:<18}{speed(each.sent_s)}, ratio {ratio(direct_s, each.sent_s)}; "
            f"ready: ratio {ratio(direct_s, each.ready_s)}; "
            f"API grew by {max(each.growth_bytes) >> 20} MiB at most"
        )


def speed(took_s: list[float]) -> str:
    """Return the median and the range of rates."""
    rates = [FILE_BYTES / 1e6 / each for each in took_s]
    return f"{statistics.median(rates):>5.0f} MB/s ({min(rates):.0f}-{max(rates):.0f})"


def ratio(direct_s: list[float], took_s: list[float]) -> str:
    """Return the median and the range of ratios, round by round."""
    ratios = [direct / took for direct, took in zip(direct_s, took_s, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def reset_peak(process: psutil.Process) -> int:
    """Have the system count the peak of a process' memory anew; return what it holds now."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return int(process.memory_info().rss)


def peak(process: psutil.Process) -> int:
    """Return the most bytes of memory that a process has held since ``reset_peak``."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


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


def pieces(file: Path, start: int = 0, n_bytes: int | None = None) -> Iterator[bytes]:
    """Yield a file, or a range of it, as clients read it."""
    left = file.stat().st_size - start if n_bytes is None else n_bytes
    with file.open("rb") as source:
        source.seek(start)
        while left and (data := source.read(min(READ_BYTES, left))):
            left -= len(data)
            yield data


def send_form(file: Path, url: str) -> tuple[float, float]:
    """Return the seconds until the job of the file is accepted, twice."""
    head = (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=file; filename=audio.bin\r\n\r\n"
    ).encode()
    end = f"\r\n--{BOUNDARY}--\r\n".encode()

    def body() -> Iterator[bytes]:
        yield head
        yield from pieces(file)
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
    return took_s, took_s


def send_parts(file: Path, url: str) -> tuple[float, float]:
    """Send presigned parts, some at once; return the seconds until all are there, and checked."""
    began = time.monotonic()
    declared = {"name": file.name, "bytes": file.stat().st_size}
    answer = httpx.post(f"{url}/uploads", json=declared, timeout=60).raise_for_status()
    upload = answer.json()
    starts, start = [], 0
    for part in upload["parts"]:
        starts.append(start)
        start += part["bytes"]

    def put(part: dict[str, Any], start: int) -> None:
        httpx.put(
            part["url"],
            content=pieces(file, start, part["bytes"]),
            headers={"Content-Length": str(part["bytes"])},
            timeout=120,
        ).raise_for_status()

    with ThreadPoolExecutor(PARTS_AT_ONCE) as threads:
        list(threads.map(put, upload["parts"], starts))
    sent_s = time.monotonic() - began
    location = url + answer.headers["location"]
    done = httpx.post(f"{location}/complete", timeout=120).raise_for_status().json()
    while done["state"] != "complete":
        done = httpx.get(location, timeout=120).raise_for_status().json()
    ready_s = time.monotonic() - began
    httpx.delete(location, timeout=60).raise_for_status()
    return sent_s, ready_s


def send_tus(file: Path, url: str) -> tuple[float, float]:
    """Send one PATCH; return the seconds until it is answered, when all is checked, twice."""
    began = time.monotonic()
    n_bytes = str(file.stat().st_size)
    resumable = {"Tus-Resumable": "1.0.0"}
    begun = httpx.post(f"{url}/uploads/tus", headers={**resumable, "Upload-Length": n_bytes})
    location = url + begun.raise_for_status().headers["location"]
    httpx.patch(
        location,
        content=pieces(file),
        headers={
            **resumable,
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": n_bytes,
            "Upload-Offset": "0",
        },
        timeout=120,
    ).raise_for_status()
    took_s = time.monotonic() - began
    httpx.delete(location, headers=resumable, timeout=60).raise_for_status()
    return took_s, took_s


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
