"""Faces of jobs' own webhooks: how a dialect tells of a job's end, and what goes along.

A webhook without a face is told in the native form, and its secret signs. The secret of one with a
face is the value of a header, or empty. A face is stored with its endpoint, as JSON.
"""

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.speech.dialects.deepgram import Wish


class _Face(BaseModel):
    # Another version may have written it.
    model_config = ConfigDict(extra="ignore", frozen=True)


class DeepgramFace(_Face):
    """Deepgram's ``callback``: the answer itself, as the request wishes it."""

    name: Literal["deepgram"] = "deepgram"
    wish: Wish
    method: Literal["POST", "PUT"] = "POST"
    key_id: UUID | None = None
    """Of the API key that the request came with."""

    def headers(self, secret: str) -> Mapping[str, str]:
        """Return the headers; ``secret``: of the URL's login."""
        key = {} if self.key_id is None else {"dg-token": str(self.key_id)}
        return key | ({"Authorization": secret} if secret else {})


class AssemblyAIFace(_Face):
    """AssemblyAI's ``webhook_url``: a transcript's id and status."""

    name: Literal["assemblyai"] = "assemblyai"
    secret_header: str | None = None
    """The name of the header whose value is the secret; None: there is no secret."""

    def headers(self, secret: str) -> Mapping[str, str]:
        """Return the headers."""
        return {} if self.secret_header is None else {self.secret_header: secret}


Face = DeepgramFace | AssemblyAIFace

FACE: TypeAdapter[Face] = TypeAdapter(Annotated[Face, Field(discriminator="name")])
"""Reads and writes the JSON of a face."""
