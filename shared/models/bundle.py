"""Bundles: models' weights in one tar, to be carried to machines without a network.

The first member, ``longhand-models.json``, names each file with its size and SHA-256; the files
follow as ``MODEL_ID/NAME``. A bundle is not trusted: only files that an engine reads are written,
under their own names and below a folder that the catalogue names, and only what the catalogue pins.
Of weights that are pinned to a digest the files themselves are compared with the pin. Of those that
are pinned to a commit of the hub the bundle's maker is believed: a commit's name says nothing of
its large files.
"""

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.infra.errors import ModelError
from shared.models import hub, weights, wheels
from shared.models import weight_files as files
from shared.models.catalogue import Catalogue, Model
from shared.models.entries import DiarizationModel
from shared.models.sources import Source

MANIFEST = "longhand-models.json"
MAX_MANIFEST_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20

AnyModel = Model | DiarizationModel


class File(BaseModel):
    """One file of a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Packed(BaseModel):
    """A model's weights in a bundle: the files, and which place of the catalogue they are from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    revision: str
    files: Mapping[str, File]


class Manifest(BaseModel):
    """What a bundle has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = Field(ge=1, le=1)
    models: Mapping[str, Packed]


Report = Callable[[str, int], None]
"""Is told a model's id and its bytes, once it is done."""


def export(models: Sequence[AnyModel], path: Path, report: Report) -> None:
    """Write the weights of models into a new file.

    Raises:
        ModelError: the weights of one are not here, or come with its engine's package.
        OSError: the file is there already, or cannot be written.
    """
    found = {model.id: _weights_of(model) for model in models}
    manifest = Manifest(
        format=1,
        models={
            model_id: Packed(
                source=place.source,
                revision=place.revision,
                files={name: _measured(folder / name) for name in names},
            )
            for model_id, (place, folder, names) in found.items()
        },
    )
    with path.open("xb") as target:
        try:
            with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
                document = manifest.model_dump_json(indent=1).encode()
                tar.addfile(_member(MANIFEST, len(document)), io.BytesIO(document))
                for model_id, (_, folder, names) in found.items():
                    entry = manifest.models[model_id]
                    for name in names:
                        with (folder / name).open("rb") as file:
                            member = _member(f"{model_id}/{name}", entry.files[name].size_bytes)
                            tar.addfile(member, file)
                    report(model_id, _size_of(entry))
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def import_(path: Path, catalogue: Catalogue, report: Report) -> None:
    """Bring the weights of a bundle to where workers look for them. Weights that are here stay.

    Raises:
        ModelError: the file is no whole bundle, or has what the catalogue does not pin.
        OSError: the file cannot be read, or a folder cannot be written.
    """
    with _opened(path) as (tar, manifest):
        wanted = {
            name: _place_of(name, entry, catalogue) for name, entry in manifest.models.items()
        }
        for model_id, entry in manifest.models.items():
            model, place = wanted[model_id]
            target = _folder_of(model, place)
            if files.present(model.layout, target) is not None:
                for _, source, _ in _members(tar, model_id, entry):
                    _copy(source, None)
                report(model_id, 0)
                continue
            if place.is_folder and target.exists():
                raise ModelError(f"{target.name} of model '{model_id}' is there, but not whole")
            target.parent.mkdir(parents=True, exist_ok=True)
            unpacked = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
            try:
                for name, source, expected in _members(tar, model_id, entry):
                    (unpacked / name).parent.mkdir(exist_ok=True)
                    with (unpacked / name).open("xb") as file:
                        _check(f"{model_id}/{name}", _copy(source, file), expected)
                found = files.digest(unpacked, files.present(model.layout, unpacked))
                if place.has_digest and found != place.revision:
                    raise ModelError(
                        f"the bundle has weights {found} of model '{model_id}', the catalogue pins "
                        f"{place.revision}"
                    )
                unpacked.chmod(0o755)
                shutil.rmtree(target, ignore_errors=True)  # an incomplete copy
                unpacked.rename(target)
            finally:
                shutil.rmtree(unpacked, ignore_errors=True)
            report(model_id, _size_of(entry))


def verify(path: Path, report: Report) -> None:
    """Read a bundle to its end, and compare each file with what the bundle says of it.

    Raises:
        ModelError: it is no bundle, or damaged.
        OSError: it cannot be read.
    """
    with _opened(path) as (tar, manifest):
        for model_id, entry in manifest.models.items():
            for name, source, expected in _members(tar, model_id, entry):
                _check(f"{model_id}/{name}", _copy(source, None), expected)
            report(model_id, _size_of(entry))


def _weights_of(model: AnyModel) -> tuple[Source, Path, list[str]]:
    if not model.needs_weights:
        raise ModelError(f"the weights of model '{model.id}' come with the package of its engine")
    pinned = weights.pinned(model)
    for place in model.places:
        folder = _folder_of(model, place)
        if folder == pinned.folder:
            return place, folder, files.present(model.layout, folder) or []
    raise ModelError(f"the weights of model '{model.id}' are in no place of the catalogue")


def _folder_of(model: AnyModel, place: Source) -> Path:
    if place.is_folder:
        return model.folder_of(place)
    return wheels.folder(place) if place.wheel else hub.snapshot_folder(place)


def _place_of(model_id: str, entry: Packed, catalogue: Catalogue) -> tuple[AnyModel, Source]:
    """Return the catalogue's model and the place that an entry of a bundle is from."""
    model = catalogue.models.get(model_id) or catalogue.diarizers.get(model_id)
    if model is None or not model.needs_weights:
        raise ModelError(f"the catalogue has no model '{model_id}' that needs weights")
    for place in model.places:
        if (place.source, place.revision) == (entry.source, entry.revision):
            break
    else:
        raise ModelError(
            f"the bundle has {entry.source} at {entry.revision} of model '{model_id}', which the "
            "catalogue does not name"
        )
    if not entry.files or files.choose(model.layout, entry.files) != sorted(entry.files):
        raise ModelError(
            f"the bundle has files of model '{model_id}' that its engine does not read"
        )
    if lacking := files.missing(model.layout, entry.files):
        raise ModelError(f"the bundle has no {', '.join(lacking)} of model '{model_id}'")
    return model, place


@contextmanager
def _opened(path: Path) -> Iterator[tuple[tarfile.TarFile, Manifest]]:
    """Open a bundle and read its manifest; what is wrong with a tar is a ``ModelError``."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|") as tar:
            first = tar.next()
            if first is None or first.name != MANIFEST or first.size > MAX_MANIFEST_BYTES:
                raise ModelError(f"{path.name} is no bundle of models")
            document = tar.extractfile(first)
            yield tar, Manifest.model_validate_json(document.read() if document else b"")
    except (tarfile.TarError, EOFError) as error:
        raise ModelError(f"{path.name} is no bundle of models, or is cut off") from error
    except ValidationError as error:
        raise ModelError(f"{path.name} is no bundle of models that this version knows") from error


def _members(
    tar: tarfile.TarFile, model_id: str, entry: Packed
) -> Iterator[tuple[str, IO[bytes], File]]:
    """Yield the files of a model, in the manifest's order, which is that of the tar."""
    for name, expected in entry.files.items():
        member = tar.next()
        source = tar.extractfile(member) if member is not None and member.isreg() else None
        if member is None or source is None:
            raise ModelError(f"the bundle ends before {model_id}/{name}")
        if (member.name, member.size) != (f"{model_id}/{name}", expected.size_bytes):
            raise ModelError(f"the bundle has {member.name} where {model_id}/{name} should be")
        yield name, source, expected


def _copy(source: IO[bytes], target: IO[bytes] | None) -> str:
    """Copy a file, or only read it; return its SHA-256."""
    total = hashlib.sha256()
    while block := source.read(_BLOCK_BYTES):
        total.update(block)
        if target is not None:
            target.write(block)
    if target is not None:
        target.flush()
        os.fsync(target.fileno())
    return total.hexdigest()


def _check(name: str, found: str, expected: File) -> None:
    if found != expected.sha256:
        raise ModelError(f"{name} in the bundle is damaged: its SHA-256 is {found}")


def _measured(path: Path) -> File:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return File(size_bytes=path.stat().st_size, sha256=sha256)


def _member(name: str, n_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = n_bytes, 0o644
    return member


def _size_of(entry: Packed) -> int:
    return sum(file.size_bytes for file in entry.files.values())
