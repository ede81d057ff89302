"""The Hugging Face Hub: the only place that talks to it, or looks into its cache.

Weights are public and pinned to a commit, so no token is read or sent. The library's usage
reporting is switched off.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from shared.infra.errors import ModelError
from shared.models import weight_files as files
from shared.models.catalogue import Model


def snapshot(model: Model) -> Path | None:
    """Return the cache's folder of the pinned commit, complete or not; None if there is none."""
    if find_spec("huggingface_hub") is None:
        return None
    found = _hub().try_to_load_from_cache(model.source, "config.json", revision=model.revision)
    return Path(found).parent if isinstance(found, str) else None


def fetch(model: Model, on_progress: Callable[[int, int], None]) -> Path:
    """Fetch the files that the model's engine reads into the cache; see ``weights.download``."""
    if find_spec("huggingface_hub") is None:
        raise ModelError(f"model '{model.id}' cannot be fetched without huggingface_hub")
    hub = _hub()
    try:
        info = hub.HfApi(token=False).model_info(
            model.source, revision=model.revision, files_metadata=True
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        names = files.choose(model.engine, sizes)
        # Required files come last, the largest at the end: an interrupted download lacks one of
        # them, and so is not taken for a complete one.
        names.sort(key=lambda name: (files.is_required(model.engine, name), sizes[name]))
        if missing := files.missing(model.engine, names):
            raise ModelError(f"{model.source} has no {', '.join(missing)} at the pinned revision")
        total = sum(sizes[name] for name in names)
        finished = 0

        def report(file_bytes: int) -> None:
            on_progress(min(finished + file_bytes, total), total)

        for name in names:
            path = Path(
                hub.hf_hub_download(
                    model.source,
                    name,
                    revision=model.revision,
                    token=False,
                    tqdm_class=_progress_bar(report),
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


def answers() -> bool:
    """Whether the hub can be reached from here; an answer is waited for 5 s."""
    if find_spec("huggingface_hub") is None:
        return False
    import httpx

    try:
        httpx.head(_hub().constants.ENDPOINT, timeout=5.0, follow_redirects=True)
    except httpx.HTTPError:
        return False
    return True


def _hub() -> ModuleType:
    """Import the client on first use: it loads slowly, and only hub engines need it."""
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.errors

    # The environment variable is read at import, which may have happened before.
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


def _progress_bar(on_bytes: Callable[[int], None]) -> type:
    """Return a tqdm class that draws nothing and reports a file's bytes so far."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *_args: object, initial: int = 0, **_kwargs: object) -> None:
            super().__init__(disable=True)
            self._file_bytes = initial

        def update(self, n: float | None = 1) -> None:
            self._file_bytes += int(n or 0)
            on_bytes(self._file_bytes)

    return Bar
