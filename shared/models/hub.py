"""The Hugging Face Hub: the only place that talks to it, or looks into its cache.

Weights are public and pinned to a commit, so no token is read or sent, and the library's usage
reporting is switched off.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from shared.infra.errors import ModelError
from shared.models import weight_files as files
from shared.models.catalogue import Model


def snapshot(model: Model) -> Path | None:
    """Return the cache's folder of the pinned commit, complete or not; None where there is none."""
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


def fetch(model: Model, on_progress: Callable[[int, int], None]) -> Path:
    """Fetch the files that the model's engine reads into the cache; return their folder.

    Args:
        model: the catalogue entry of a hub engine.
        on_progress: called with (bytes so far, bytes in all) as they arrive.

    Raises:
        ModelError: the hub cannot be reached, or does not have what the catalogue pins.
    """
    if find_spec("huggingface_hub") is None:
        raise ModelError(f"model '{model.id}' cannot be fetched without huggingface_hub")
    hub = _hub()
    try:
        info = hub.HfApi(token=False).model_info(
            model.source, revision=model.revision, files_metadata=True
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        names = files.choose(model.engine, sizes)
        # Required files come last, the largest at the end: so an interrupted download lacks a
        # required file, and nobody takes it for a complete one.
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


def answers(timeout_s: float = 5.0) -> bool:
    """Whether the hub can be reached from here."""
    if find_spec("huggingface_hub") is None:
        return False
    import httpx

    try:
        httpx.head(_hub().constants.ENDPOINT, timeout=timeout_s, follow_redirects=True)
    except httpx.HTTPError:
        return False
    return True


def _hub() -> ModuleType:
    """Import the client on first use: it loads slowly, and only hub engines need it."""
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.errors

    # Not by the environment variable: it is read at import, which others may have done before.
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


def _report(
    on_progress: Callable[[int, int], None], before_bytes: int, total_bytes: int, file_bytes: int
) -> None:
    on_progress(min(before_bytes + file_bytes, total_bytes), total_bytes)


def _progress_bar(on_bytes: Callable[[int], None]) -> type:
    """Return a progress bar class that draws nothing and reports a file's bytes so far."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *_args: object, initial: int = 0, **_kwargs: object) -> None:
            super().__init__(disable=True)
            self._file_bytes = initial

        def update(self, n: float | None = 1) -> None:
            self._file_bytes += int(n or 0)
            on_bytes(self._file_bytes)

    return Bar
