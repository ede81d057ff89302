"""What catalogue entries of all kinds have, and the entry of a model that tells speakers apart."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from shared.models.sources import FOLDER_PREFIX, Source

DiarizerName = Literal["campplus-seg3", "pyannote-community-1", "sortformer"]


class Entry(Source):
    """Weights with a name. The entry itself names the first place that has them."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    description: str = Field(min_length=1, description="one line for a person choosing a model")
    mirrors: tuple[Source, ...] = Field(
        default=(), description="other places with the same weights, tried in this order"
    )
    size_bytes: int = Field(ge=0, description="of the weights on disk")
    hidden: bool = Field(default=False, description="usable, but not offered to users")
    also_called: tuple[str, ...] = Field(
        default=(), description="other names of it, which jobs and settings may use"
    )

    _catalogue_folder: Path = PrivateAttr(default=Path())
    _is_locked: bool = PrivateAttr(default=False)

    @property
    def places(self) -> tuple[Source, ...]:
        """All places that have the weights, in the order in which they are tried."""
        return (self, *self.mirrors)

    @property
    def is_locked(self) -> bool:
        """Whether the revision is from the lock file, not from the catalogue."""
        return self._is_locked

    @property
    def needs_weights(self) -> bool:
        """Whether its weights do not come with a package that is installed."""
        return True

    def folder_of(self, place: Source) -> Path:
        """Return the operator's folder that a source 'file:PATH' names."""
        return self._catalogue_folder / place.source.removeprefix(FOLDER_PREFIX)

    @property
    def folder(self) -> Path | None:
        """The operator's folder with its weights; None: they come from elsewhere."""
        return self.folder_of(self) if self.needs_weights and self.is_folder else None

    def found_in(self, catalogue: Path, *, is_locked: bool) -> Self:
        """Note the catalogue's folder, and whether its lock file names the revision."""
        self._catalogue_folder, self._is_locked = catalogue.resolve().parent, is_locked
        return self


class DiarizationModel(Entry):
    """A catalogue entry of kind "diarization"."""

    kind: Literal["diarization"]
    engine: DiarizerName

    @model_validator(mode="after")
    def _check(self) -> Self:
        for place in self.places:
            place.check_revision()
        return self

    @property
    def layout(self) -> str:
        """Which files its weights consist of (``weight_files``)."""
        return self.engine
