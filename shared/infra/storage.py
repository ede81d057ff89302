"""The object store."""

import base64
import hashlib
import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
from botocore.auth import AUTH_TYPE_MAPS, UNSIGNED_PAYLOAD, S3SigV4Auth
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.infra.errors import StorageUnavailable
from shared.infra.storage_spans import trace_requests

PART_BYTES = 8 * 1024**2
"""Size of an upload's parts. S3 demands at least 5 MiB of all but the last."""
MAX_PARTS = 10_000
"""S3's limit: with ``PART_BYTES``, up to 78 GiB."""
_READ_BYTES = 4 * 1024**2
"""Size of a ranged read by ``Storage.open``."""
_STREAM_BYTES = 256 * 1024
"""Size of a block of ``Storage.stream``."""
_DELETE_KEYS = 1000
"""The most keys in one DeleteObjects request."""
_CONNECT_TIMEOUT_S = 2


class _UnsignedPayload(S3SigV4Auth):  # type: ignore[misc] # botocore has no types
    """Signs a request's head and not its body.

    Signing the body costs one more SHA-256 of the whole file. TLS protects the body. Over plain
    HTTP, who can change what is sent can also change what is read.
    """

    def payload(self, request: object) -> str:  # noqa: ARG002 - botocore's signature
        return str(UNSIGNED_PAYLOAD)


_UNSIGNED = "longhand-s3v4-unsigned-payload"
AUTH_TYPE_MAPS[_UNSIGNED] = _UnsignedPayload


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part of a multipart upload, as the store has it."""

    n_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class BegunUpload:
    """A multipart upload that the store lists: neither completed nor aborted."""

    key: str
    upload_id: str
    begun_at: datetime
    """With a time zone."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store lists it."""

    key: str
    n_bytes: int
    version: str
    """Another one after each write, as far as the store's ETags and times tell."""


class Storage:
    """One bucket of an S3-compatible store. Safe to use from several threads.

    All methods raise ``StorageUnavailable`` when the store cannot be reached, answers with an error
    or lacks the object.
    """

    def __init__(
        self,
        url: str,
        *,
        public_url: str = "",
        connections: int = 32,
        read_timeout_s: float = 20.0,
        attempts: int = 3,
    ) -> None:
        """Parse ``http(s)://[KEY:SECRET@]HOST[:PORT]/BUCKET[?region=R]``; connects on first use.

        Args:
            url: where the bucket is.
            public_url: ``http(s)://HOST[:PORT]`` in URLs for clients; empty: that of ``url``.
            connections: kept open for reuse, one per thread that uses the store at once. More
                work, but are closed after each request.
            read_timeout_s: longest silence of the store during a request.
            attempts: how often a request is tried, with pauses of up to 1 s, then up to 2 s. A
                frozen store fails it after ``attempts * read_timeout_s`` and the pauses.
        """
        parts = urlsplit(url)
        self._bucket = parts.path.strip("/")
        region = parse_qs(parts.query).get("region", ["us-east-1"])[0]
        port = f":{parts.port}" if parts.port else ""
        self._endpoint = f"{parts.scheme}://{parts.hostname}{port}"
        self._public_endpoint = public_url.rstrip("/") or self._endpoint
        self._options: dict[str, Any] = {
            "region_name": region,
            "aws_access_key_id": unquote(parts.username) if parts.username else None,
            "aws_secret_access_key": unquote(parts.password) if parts.password else None,
            "config": Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                # Stores other than AWS often know none of the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=read_timeout_s,
                retries={"mode": "standard", "total_max_attempts": attempts},
                max_pool_connections=connections,
                # Otherwise each request has one put together, of some thirty parts.
                user_agent="longhand",
                parameter_validation=False,
            ),
        }
        self._client = boto3.client("s3", endpoint_url=self._endpoint, **self._options)

        trace_requests(self._client.meta.events)
        for request in ("PutObject", "UploadPart"):  # an object's MD5 digest is in the signed head
            self._client.meta.events.register(f"choose-signer.s3.{request}", lambda **_: _UNSIGNED)

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

    def put(self, key: str, data: bytes | bytearray) -> None:
        """Store an object with one request; the store checks its MD5 digest."""
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        with _translated():
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=data,
                ContentMD5=base64.b64encode(digest).decode(),
            )

    def start_upload(self, key: str) -> "Upload":
        """Begin a multipart upload."""
        with _translated():
            created = self._client.create_multipart_upload(Bucket=self._bucket, Key=key)
        return self.upload(key, created["UploadId"])

    def upload(self, key: str, upload_id: str) -> "Upload":
        """Return a multipart upload that was begun earlier; asks the store nothing."""
        return Upload(self._client, self._bucket, key, upload_id)

    def presigned_part(
        self, key: str, upload_id: str, number: int, *, n_bytes: int, valid_s: int
    ) -> str:
        """Return a URL at which whoever has it may PUT a part of exactly ``n_bytes``.

        The length is signed, so the store refuses a body of another one. Asks the store nothing.
        """
        with _translated():
            return str(
                self._presigner.generate_presigned_url(
                    "upload_part",
                    Params={
                        "Bucket": self._bucket,
                        "Key": key,
                        "UploadId": upload_id,
                        "PartNumber": number,
                        "ContentLength": n_bytes,
                    },
                    ExpiresIn=valid_s,
                )
            )

    @cached_property
    def _presigner(self) -> "boto3.client":
        """A client that only signs: it signs for the public host, and not as ``_UNSIGNED``."""
        return boto3.client("s3", endpoint_url=self._public_endpoint, **self._options)

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes, None if there is no such object."""
        with _translated():
            try:
                head = self._client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if _code(error) in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise
            return int(head["ContentLength"])

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Return bytes [start, stop) of an object; fewer if it ends before."""
        if stop <= start:
            return b""
        with _translated():
            answer = self._client.get_object(
                Bucket=self._bucket, Key=key, Range=f"bytes={start}-{stop - 1}"
            )
            return bytes(answer["Body"].read())

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield an object from its beginning, in blocks of up to 256 KiB, with one request.

        The store sends while the blocks before are used. A connection that breaks is not replaced.
        """
        with _translated():
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
        with closing(answer["Body"]) as body:
            while True:
                with _translated():
                    block = body.read(_STREAM_BYTES)
                if not block:
                    return
                yield block

    def open(self, key: str, size: int) -> BinaryIO:
        """Return a seekable reader of an object of ``size`` bytes, with a buffer of 4 MiB.

        An object that fits the buffer is read here, with one request.
        """
        if size <= _READ_BYTES:
            return io.BytesIO(self.read(key, 0, size))
        return io.BufferedReader(_RangeReader(self, key, size), buffer_size=_READ_BYTES)

    def objects(self, prefix: str) -> Iterator[list[StoredObject]]:
        """Yield the objects whose key begins with ``prefix``, up to 1,000 at a time."""
        with _translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            for page in pages:
                yield [
                    StoredObject(
                        found["Key"],
                        found["Size"],
                        f"{found['ETag']} {found['LastModified']:%Y-%m-%dT%H:%M:%S.%f}",
                    )
                    for found in page.get("Contents", [])
                ]

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, existing or not; returns once the store has confirmed all."""
        with _translated():
            for start in range(0, len(keys), _DELETE_KEYS):
                batch = [{"Key": key} for key in keys[start : start + _DELETE_KEYS]]
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True}
                )
                if kept := answer.get("Errors"):
                    code = kept[0].get("Code", "unknown")
                    raise StorageUnavailable(f"the object store kept {len(kept)} objects ({code})")

    def delete_prefix(self, prefix: str) -> None:
        """Delete all objects whose key begins with ``prefix``, and multipart uploads begun there.

        Returns once the store has confirmed all.
        """
        with _translated():
            # Comes first, so that an upload that completes meanwhile is found as an object.
            self._abort_uploads(prefix)
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            for page in pages:
                self.delete([found["Key"] for found in page.get("Contents", [])])

    def _abort_uploads(self, prefix: str) -> None:
        """Abort the multipart uploads under a prefix, as far as the store lists them.

        MinIO lists the uploads of an exact key only, and some stores list none. There, an upload
        whose process was killed before ``Upload.abort`` needs a lifecycle rule of the store.
        """
        for begun in self.begun_uploads(prefix):
            self.upload(begun.key, begun.upload_id).abort()

    def begun_uploads(self, prefix: str) -> list[BegunUpload]:
        """Return the multipart uploads under a prefix that are neither completed nor aborted.

        As far as the store lists them: ``_abort_uploads``.
        """
        with _translated():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            try:
                return [
                    BegunUpload(upload["Key"], upload["UploadId"], upload["Initiated"])
                    for page in pages
                    for upload in page.get("Uploads", [])
                ]
            except ClientError as error:
                # rclone answers NoSuchUpload if there has never been an upload.
                if _code(error) in ("NoSuchUpload", "NotImplemented"):
                    return []
                raise


class Upload:
    """A multipart upload: an object after ``finish``, nothing after ``abort``.

    Several threads may send parts at once.
    """

    def __init__(self, client: "boto3.client", bucket: str, key: str, upload_id: str) -> None:
        self._client = client
        self._target = {"Bucket": bucket, "Key": key, "UploadId": upload_id}
        self.upload_id = upload_id
        self._lock = threading.Lock()
        self._etags: dict[int, str] = {}

    def send(self, number: int, data: bytes | bytearray) -> None:
        """Send a part, numbered from 1; all but the last have ``PART_BYTES``."""
        with _translated():
            sent = self._client.upload_part(**self._target, PartNumber=number, Body=data)
        with self._lock:
            self._etags[number] = sent["ETag"]

    def finish(self, stored: Mapping[int, StoredPart] | None = None) -> None:
        """Complete the object of all parts that were sent, or of those ``stored``."""
        etags = self._etags if stored is None else {n: part.etag for n, part in stored.items()}
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(etags.items())]
        with _translated():
            self._client.complete_multipart_upload(**self._target, MultipartUpload={"Parts": parts})

    def stored_bytes(self) -> int:
        """Return the size of all parts that the store has, before ``finish``.

        A store may have to read a large finished object to its end before it can tell its size.
        """
        return sum(part.n_bytes for part in (self.parts() or {}).values())

    def parts(self) -> dict[int, StoredPart] | None:
        """Return the parts that the store has by number, None if it has no such upload (any more).

        A store may have none after it was restarted: rclone keeps them in memory.
        """
        with _translated():
            pages = self._client.get_paginator("list_parts").paginate(**self._target)
            try:
                return {
                    part["PartNumber"]: StoredPart(part["Size"], part["ETag"])
                    for page in pages
                    for part in page.get("Parts", [])
                }
            except ClientError as error:
                if _code(error) == "NoSuchUpload":
                    return None
                raise

    def abort(self) -> None:
        """Delete all parts, if there are any still; no thread of this process may be sending one.

        The store refuses parts that come later.
        """
        with _translated():
            try:
                self._client.abort_multipart_upload(**self._target)
            except ClientError as error:
                if _code(error) != "NoSuchUpload":  # it has ended
                    raise


class _RangeReader(io.RawIOBase):
    """An object of ``size`` bytes as a seekable raw file; each read is one ranged request."""

    def __init__(self, storage: Storage, key: str, size: int) -> None:
        self._storage = storage
        self._key = key
        self._size = size
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
    """Turn every failure of the store into ``StorageUnavailable``, without address and key."""
    try:
        yield
    except ClientError as error:
        raise StorageUnavailable(f"the object store refused a request ({_code(error)})") from error
    except BotoCoreError as error:
        raise StorageUnavailable("the object store cannot be reached") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
