"""The object store: the one place that speaks S3."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.infra.errors import StorageUnavailable

PART_BYTES = 8 * 1024**2
"""Size of an upload's parts. S3 wants at least 5 MiB and at most 10,000 parts: up to 80 GiB."""
_READ_BYTES = 4 * 1024**2
"""Size of one ranged read of a sequential reader."""


class Storage:
    """One bucket of an S3-compatible store. Safe to use from several threads.

    All methods raise ``StorageUnavailable`` when the store cannot be reached, answers with an error
    or lacks the object asked for (which we only ask for after having stored it).
    """

    def __init__(self, url: str) -> None:
        """Parse ``http(s)://[KEY:SECRET@]HOST[:PORT]/BUCKET[?region=R]``; connects on first use.

        Raises:
            ValueError: the URL has no bucket or another scheme.
        """
        parts = urlsplit(url)
        self._bucket = parts.path.strip("/")
        if parts.scheme not in ("http", "https") or not parts.hostname or not self._bucket:
            raise ValueError("LONGHAND_STORAGE_URL must be http(s)://KEY:SECRET@HOST[:PORT]/BUCKET")
        region = parse_qs(parts.query).get("region", ["us-east-1"])[0]
        port = f":{parts.port}" if parts.port else ""
        self._client = boto3.client(
            "s3",
            endpoint_url=f"{parts.scheme}://{parts.hostname}{port}",
            region_name=region,
            aws_access_key_id=unquote(parts.username) if parts.username else None,
            aws_secret_access_key=unquote(parts.password) if parts.password else None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                # Stores other than AWS often know none of the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=2,
                read_timeout=20,
                retries={"mode": "standard", "total_max_attempts": 3},
                max_pool_connections=32,
            ),
        )

    def ping(self) -> None:
        """Ask for the bucket."""
        with _translated():
            self._client.head_bucket(Bucket=self._bucket)

    def create_bucket(self) -> None:
        """Make the bucket unless it exists."""
        with _translated():
            existing = self._client.list_buckets().get("Buckets", [])
            if self._bucket not in {bucket["Name"] for bucket in existing}:
                self._client.create_bucket(Bucket=self._bucket)

    def put(self, key: str, data: bytes) -> None:
        """Store a small object whole."""
        with _translated():
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data)

    def start_upload(self, key: str) -> "Upload":
        """Begin an object of unknown size."""
        return Upload(self._client, self._bucket, key)

    def size(self, key: str) -> int:
        """Return an object's size in bytes."""
        with _translated():
            return int(self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Return bytes [start, stop) of an object; fewer where it ends before."""
        if stop <= start:
            return b""
        with _translated():
            answer = self._client.get_object(
                Bucket=self._bucket, Key=key, Range=f"bytes={start}-{stop - 1}"
            )
            return bytes(answer["Body"].read())

    def open(self, key: str) -> BinaryIO:
        """Return a seekable reader that holds a few MiB of the object at a time."""
        return io.BufferedReader(_RangeReader(self, key), buffer_size=_READ_BYTES)

    def delete_prefix(self, prefix: str) -> None:
        """Remove all objects whose key begins with ``prefix``, and uploads begun there.

        Returns once the store has confirmed all of it.
        """
        with _translated():
            # Uploads first: one that is completed meanwhile is found among the objects.
            self._abort_uploads(prefix)
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            for page in pages:
                keys = [{"Key": found["Key"]} for found in page.get("Contents", [])]
                if not keys:
                    continue
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True}
                )
                if kept := answer.get("Errors"):
                    code = kept[0].get("Code", "unknown")
                    raise StorageUnavailable(f"the object store kept {len(kept)} objects ({code})")

    def _abort_uploads(self, prefix: str) -> None:
        """Forget the parts of uploads that nobody will complete.

        MinIO lists those of an exact key only, some stores list none: an upload's own ``abort``
        does without the list, and where its process was killed, a lifecycle rule must help.
        """
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=prefix
        )
        try:
            begun = [upload for page in pages for upload in page.get("Uploads", [])]
        except ClientError as error:
            # rclone says NoSuchUpload where there never was one.
            if _code(error) in ("NoSuchUpload", "NotImplemented"):
                return
            raise
        for upload in begun:
            try:
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
            except ClientError as error:
                if _code(error) != "NoSuchUpload":  # it has ended meanwhile
                    raise


class Upload:
    """An object being written, one part in memory: there after ``finish``, gone after ``abort``."""

    def __init__(self, client: "boto3.client", bucket: str, key: str) -> None:
        self._client = client
        self._target = {"Bucket": bucket, "Key": key}
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[dict[str, object]] = []

    def write(self, data: bytes) -> None:
        """Append ``data``; sends a part for every PART_BYTES gathered."""
        self._buffer += data
        while len(self._buffer) >= PART_BYTES:
            self._send_part(PART_BYTES)

    def finish(self) -> None:
        """Send what is left and make the object visible."""
        with _translated():
            if self._upload_id is None:
                self._client.put_object(**self._target, Body=bytes(self._buffer))
                return
            if self._buffer:
                self._send_part(len(self._buffer))
            self._client.complete_multipart_upload(
                **self._target, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
            )

    def abort(self) -> None:
        """Forget everything written."""
        self._buffer.clear()
        if self._upload_id is not None:
            with _translated():
                self._client.abort_multipart_upload(**self._target, UploadId=self._upload_id)

    def _send_part(self, n_bytes: int) -> None:
        with _translated():
            if self._upload_id is None:
                created = self._client.create_multipart_upload(**self._target)
                self._upload_id = created["UploadId"]
            number = len(self._parts) + 1
            sent = self._client.upload_part(
                **self._target,
                UploadId=self._upload_id,
                PartNumber=number,
                Body=bytes(self._buffer[:n_bytes]),
            )
            self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            del self._buffer[:n_bytes]


class _RangeReader(io.RawIOBase):
    """An object as a seekable raw file; each read is one ranged request."""

    def __init__(self, storage: Storage, key: str) -> None:
        self._storage = storage
        self._key = key
        self._size = storage.size(key)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        stop = min(self._position + len(buffer), self._size)
        data = self._storage.read(self._key, self._position, stop)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn every failure of the store into ``StorageUnavailable``, naming no address and no key."""
    try:
        yield
    except ClientError as error:
        raise StorageUnavailable(f"the object store refused a request ({_code(error)})") from error
    except BotoCoreError as error:
        raise StorageUnavailable("the object store cannot be reached") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
