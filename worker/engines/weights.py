"""Model weights on this machine: the only place that talks to the Hugging Face Hub.

The CLI downloads, workers only look into the cache. Weights are public and pinned to a commit, so
no token is read or sent, and the library's usage reporting is switched off.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from shared.catalogue import Model
from shared.errors import ModelError

REQUIRED_FILES = ("config.json", "model.bin", "tokenizer.json")
"""What a CTranslate2 Whisper model cannot do without."""
OPTIONAL_FILES = ("preprocessor_config.json", "vocabulary.json", "vocabulary.txt")
"""What some of them have besides: the sizes differ in mel bands and vocabulary format."""


def cached(model: Model) -> Path | None:
    """Return the folder of the pinned weights, or None where they are not (wholly) there.

    Weights that come with their engine are there as soon as it is installed.
    """
    if model.engine != "faster-whisper":
        return _engine_folder(model)
    if find_spec("huggingface_hub") is None:
        return None
    hub = _hub()
    try:
        folder = Path(
            hub.snapshot_download(
                model.source,
                revision=model.revision,
                allow_patterns=[*REQUIRED_FILES, *OPTIONAL_FILES],
                local_files_only=True,
                token=False,
            )
        )
    except (hub.errors.LocalEntryNotFoundError, hub.errors.IncompleteSnapshotError):
        return None
    return folder if all((folder / name).exists() for name in REQUIRED_FILES) else None


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
    if model.engine != "faster-whisper" or find_spec("huggingface_hub") is None:
        raise ModelError(f"model '{model.id}' needs longhand[{model.engine}] to be installed first")
    hub = _hub()
    try:
        info = hub.HfApi(token=False).model_info(
            model.source, revision=model.revision, files_metadata=True
        )
        sizes = {
            file.rfilename: file.size or 0
            for file in info.siblings or ()
            if file.rfilename in REQUIRED_FILES + OPTIONAL_FILES
        }
        if missing := sorted(set(REQUIRED_FILES) - set(sizes)):
            raise ModelError(f"{model.source} has no {', '.join(missing)} at the pinned revision")
        total = sum(sizes.values())
        finished = 0
        for name, size in sizes.items():
            path = Path(
                hub.hf_hub_download(
                    model.source,
                    name,
                    revision=model.revision,
                    token=False,
                    tqdm_class=_progress_bar(partial(_report, on_progress, finished, total)),
                )
            )
            finished += size
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


def _engine_folder(model: Model) -> Path | None:
    """Return where an engine that carries its own weights is installed."""
    if model.engine == "oracle":
        return Path(__file__).parent
    spec = find_spec(model.engine)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _hub() -> ModuleType:
    """Import the client on first use: it is slow to load, and only one engine needs it."""
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
