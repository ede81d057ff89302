"""Objects of the object store that come in or go."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

from shared.store.states import UploadState
from shared.store.tables.schema import TIME, metadata, not_null, one_of, partial_index

removals = Table(
    "removals",
    metadata,
    Column("prefix", Text, primary_key=True, comment="all objects whose keys begin with it"),
    not_null("due_at", TIME),
    Column(
        "again_at",
        TIME,
        comment="when to remove once more what was written late",
    ),
    Column("taken_at", TIME, comment="when it was last tried"),
    Index(None, "due_at"),
    comment="What the sweeper removes from the object store, unless it is taken back before.",
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, comment="UUIDv7: sorts by creation"),
    not_null("tenant", Text),
    not_null("state", Text),
    not_null("name", Text, comment="of the file, as the client says"),
    not_null("size_bytes", BigInteger, comment="as declared"),
    Column("sha256", Text, comment="as declared, if it was; once complete, as found"),
    not_null("resumable", Boolean, comment="whether it comes by tus, through the API"),
    not_null("offset_bytes", BigInteger, default="0", comment="of tus: what is stored for good"),
    not_null("epoch", Integer, default="0", comment="of tus: raised by every PATCH; fences it"),
    Column("multipart_id", Text, comment="of the object store's multipart upload"),
    Column("metadata", Text, comment="of tus: what its client said of it, returned unchanged"),
    not_null("held", Boolean, default=text("false"), comment="a job needs its object"),
    not_null("created_at", TIME, default=func.now()),
    not_null("expires_at", TIME, comment="when it is removed, unless it is held"),
    one_of("state", UploadState),
    partial_index("ix_uploads_open", "tenant", where="state = 'open'"),
    partial_index(None, "expires_at", where="NOT held"),
    comment="Files that come in before their jobs do.",
)
