"""Model weights on this machine: the only place that talks to the Hugging Face Hub.

The CLI downloads, workers only look into the cache, or into the folder that the operator named in
the catalogue. Public weights are pinned to a commit, so no token is read or sent, and the library's
usage reporting is switched off; weights in a folder are pinned to the digest of their files.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from shared.infra.errors import ModelError
from shared.models import weight_files as files
from shared.models.catalogue import HUB_ENGINES, UNPINNED, Model
from shared.models.installed import missing_engine

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


class Weights(NamedTuple):
    """A model's weights in place."""

    folder: Path
    digest: str
    """'sha256:...' of the files that the engine reads."""


def pinned(model: Model) -> Weights:
    """Return the weights of a hub engine's model, ready to load, and what they are.

    Raises:
        ModelError: they are not here, or not those that the catalogue pins.
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
    """Name files by what they are called and what is in them: 'sha256:...'.

    The hub's cache links large files to blobs named by their SHA-256, and such a file is not read
    again: a worker with weights of 3 GB starts without going through them twice.

    Args:
        folder: where the files are.
        names: those to look at, relative to the folder; None takes all, in its folders too.
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
    """Return the folder of the weights, or None where they are not (wholly) there.

    Weights that come with their engine are there as soon as it is installed.
    """
    if model.engine not in HUB_ENGINES:
        return _engine_folder(model)
    folder = model.folder or _snapshot(model)
    return folder if folder and files.present(model.engine, folder) is not None else None


def why_not_pinned(model: Model) -> str | None:
    """Return what the operator of a model that is not pinned has to do, or None: it is pinned."""
    if model.is_pinned:
        return None
    names = model.folder and files.present(model.engine, model.folder)
    if model.folder is None or not names:
        return f'its revision is "{UNPINNED}" in the catalogue; docs/models.md says how to pin it'
    return f'not pinned; its folder is revision = "{digest(model.folder, names)}"'


def download(model: Model, on_progress: Callable[[int, int], None]) -> Path:
    """Fetch the pinned weights into the shared Hugging Face cache and return their folder.

    Nothing is fetched that is there already, and an interrupted download goes on where it stopped.

    Args:
        model: the catalogue entry.
        on_progress: called with (bytes so far, bytes in all) as they arrive.

    Raises:
        ModelError: the hub cannot be reached, or does not have what the catalogue pins.
    """
    if (folder := cached(model)) is not None:
        return folder
    if model.folder is not None:
        raise ModelError(_incomplete(model, model.folder))
    if model.engine not in HUB_ENGINES:
        raise ModelError(f"model '{model.id}': {missing_engine(model)}")
    if find_spec("huggingface_hub") is None:
        raise ModelError(f"model '{model.id}' cannot be fetched without huggingface_hub")
    hub = _hub()
    try:
        info = hub.HfApi(token=False).model_info(
            model.source, revision=model.revision, files_metadata=True
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        names = files.choose(model.engine, sizes)
        # What the engine cannot do without comes last, the largest at the very end: while any of it
        # is missing, nobody takes an interrupted download for a whole one.
        names.sort(key=lambda name: (files.is_required(model.engine, name), sizes[name]))
        if missing := files.missing(model.engine, names):
            raise ModelError(f"{model.source} has no {', '.join(missing)} at the pinned revision")
        total = sum(sizes[name] for name in names)
        finished = 0
        for name in names:
            path = Path(
                hub.hf_hub_download(
                    model.source,
                    name,
                    revision=model.revision,
                    token=False,
                    tqdm_class=_progress_bar(partial(_report, on_progress, finished, total)),
                )
            )
            finished += sizes[name]
            on_progress(finished, total)
    except (
        hub.errors.HTTPError,  # the transport's base class, whichever transport the client uses
        hub.errors.LocalEntryNotFoundError,
        hub.errors.OfflineModeIsEnabled,
    ) as error:
        raise ModelError(
            f"the weights of model '{model.id}' cannot be fetched from {model.source}"
        ) from error
    return path.parent


def hub_answers(timeout_s: float = 5.0) -> bool:
    """Whether the hub can be reached at all, from here and now."""
    if find_spec("huggingface_hub") is None:
        return False
    import httpx

    try:
        httpx.head(_hub().constants.ENDPOINT, timeout=timeout_s, follow_redirects=True)
    except httpx.HTTPError:
        return False
    return True


def _incomplete(model: Model, folder: Path) -> str:
    if not folder.is_dir():
        return f"the folder that the catalogue names for model '{model.id}' is not there"
    names = files.choose(model.engine, (path.name for path in folder.iterdir()))
    lacking = ", ".join(files.missing(model.engine, names)) or "a shard of its weights"
    return f"the folder of model '{model.id}' has no {lacking}"


def _engine_folder(model: Model) -> Path | None:
    """Return where an engine that carries its own weights is installed."""
    if model.engine == "oracle":
        return Path(__file__).parent
    spec = find_spec(model.engine)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _snapshot(model: Model) -> Path | None:
    """Return the hub cache's folder of the pinned commit, if there is one; whole or not."""
    if find_spec("huggingface_hub") is None:
        return None
    hub = _hub()
    try:
        return Path(
            hub.snapshot_download(
                model.source,
                revision=model.revision,
                allow_patterns=["config.json"],
                local_files_only=True,
                token=False,
            )
        )
    except (hub.errors.LocalEntryNotFoundError, hub.errors.IncompleteSnapshotError):
        return None


def _hub() -> ModuleType:
    """Import the client on first use: it is slow to load, and only the hub's models need it."""
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.errors

    # The environment variable of this name is read at import, and others may have imported it.
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


def _report(
    on_progress: Callable[[int, int], None], before_bytes: int, total_bytes: int, file_bytes: int
) -> None:
    on_progress(min(before_bytes + file_bytes, total_bytes), total_bytes)


def _progress_bar(on_bytes: Callable[[int], None]) -> type:
    """Return a bar class for the client that draws nothing and reports a file's bytes so far."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *_args: object, initial: int = 0, **_kwargs: object) -> None:
            super().__init__(disable=True)
            self._file_bytes = initial

        def update(self, n: float | None = 1) -> None:
            self._file_bytes += int(n or 0)
            on_bytes(self._file_bytes)

    return Bar
