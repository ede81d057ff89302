"""Uploads on the wire."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from api.uploads.transfers import MAX_DIRECT_BYTES
from api.validation import whole
from shared.store.states import UploadState
from shared.store.uploads import Upload as StoredUpload

SHA256_PATTERN = "^[0-9a-fA-F]{64}$"


class NewUpload(BaseModel):
    """A file that is about to be sent to the object store."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "talk.mp3", "bytes": 1_048_576}]},
    )

    name: str = Field(
        default="",
        max_length=1000,
        description="of the file; the last component of a path counts",
    )
    bytes: Annotated[int, BeforeValidator(whole)] = Field(
        ge=1, le=MAX_DIRECT_BYTES, description="its exact size"
    )
    sha256: Annotated[str | None, AfterValidator(lambda given: given and given.lower())] = Field(
        default=None,
        pattern=SHA256_PATTERN,
        description="hex digest of the file; if it has another one, the upload fails",
    )


class UploadPart(BaseModel):
    """A part that is to be sent to the object store."""

    number: int = Field(description="from 1")
    bytes: int = Field(description="its exact length; all parts but the last have the same")
    url: str = Field(
        description="where to PUT it, without any credential, until url_expires_at; the object "
        "store refuses a body of another length"
    )
    stored: bool = Field(description="whether the object store has it")


class Upload(BaseModel):
    """An upload as it is now."""

    id: UUID = Field(description="to be named as `upload_id`")
    state: UploadState = Field(
        description="open: it lacks bytes. verifying: its SHA-256 is being computed. complete: "
        "jobs can be made of it. failed: its SHA-256 is not the one that was declared"
    )
    name: str
    bytes: int = Field(description="as declared")
    offset: int | None = Field(
        description="of a resumable upload (tus): how much of it is stored; null for others"
    )
    sha256: str | None = Field(description="as declared; once it is complete, as found")
    created_at: datetime
    expires_at: datetime | None = Field(
        description="when it is removed; null while jobs need it, with whose audio it goes"
    )

    @classmethod
    def of(cls, upload: StoredUpload) -> Self:
        """Return the wire form of an upload."""
        return cls(**_members(upload))


class UploadParts(Upload):
    """An upload and a page of its parts."""

    parts: list[UploadPart] = Field(description="to be sent; of a small file there is one")
    parts_total: int = Field(description="how many parts there are in all")
    url_expires_at: datetime | None = Field(
        description="until when the parts' URLs are valid; null if there are none"
    )

    @classmethod
    def with_parts(
        cls,
        upload: StoredUpload,
        parts: list[UploadPart],
        *,
        total: int,
        url_expires_at: datetime | None,
    ) -> Self:
        """Return the wire form of an upload with a page of parts."""
        return cls(
            **_members(upload), parts=parts, parts_total=total, url_expires_at=url_expires_at
        )


def _members(upload: StoredUpload) -> dict[str, Any]:
    return {
        "id": upload.id,
        "state": upload.state,
        "name": upload.name,
        "bytes": upload.size_bytes,
        "offset": upload.offset_bytes if upload.resumable else None,
        "sha256": upload.sha256,
        "created_at": upload.created_at,
        "expires_at": None if upload.held else upload.expires_at,
    }
