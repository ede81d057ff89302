"""A client of tus 1.0, as small as the protocol allows, for tests."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import httpx

RESUMABLE = {"Tus-Resumable": "1.0.0"}
OFFSET_STREAM = {"Content-Type": "application/offset+octet-stream"}


def metadata(**values: str) -> str:
    """Return an Upload-Metadata header."""
    return ",".join(
        f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items()
    )


@dataclass(frozen=True)
class TusUpload:
    """An upload that was begun; ``api`` may be another process' by now."""

    location: str

    @property
    def id(self) -> UUID:
        return UUID(self.location.rpartition("/")[2])

    def patch(
        self, api: httpx.Client, offset: int, content: bytes | Iterator[bytes], **headers: str
    ) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        own = {**RESUMABLE, **OFFSET_STREAM, "Upload-Offset": str(offset)}
        return api.patch(self.location, content=content, headers={**own, **given})

    def offset(self, api: httpx.Client) -> int:
        answer = api.head(self.location, headers=RESUMABLE)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        return int(answer.headers["Upload-Offset"])


def begin(api: httpx.Client, n_bytes: int, **values: str) -> TusUpload:
    """Begin an upload with these metadata."""
    headers = {**RESUMABLE, "Upload-Length": str(n_bytes)}
    if values:
        headers["Upload-Metadata"] = metadata(**values)
    answer = api.post("/uploads/tus", headers=headers)
    assert answer.status_code == 201, answer.text
    return TusUpload(answer.headers["Location"])
