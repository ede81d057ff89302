"""The Hugging Face Hub: the only place that talks to it, or looks into its cache.

Weights are public and pinned to a commit, so no token is read or sent. The library's usage
reporting is switched off.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from shared.infra.errors import ModelError
from shared.models import weight_files as files
from shared.models.sources import Source

ASK_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Commit:
    """A repository at one commit."""

    sha: str
    sizes: Mapping[str, int]
    """Bytes of the files that the engine reads, by name."""
    licence: str
    """As the repository's card states it."""


def snapshot(source: Source, layout: str) -> Path | None:
    """Return the cache's folder of the pinned commit, complete or not; None if there is none."""
    if find_spec("huggingface_hub") is None:
        return None
    name = files.first_required(layout)
    found = _hub().try_to_load_from_cache(source.source, name, revision=source.revision)
    return _root(Path(found), name) if isinstance(found, str) else None


def snapshot_folder(source: Source) -> Path:
    """Return where the cache has, or would have, the pinned commit.

    Raises:
        ModelError: the hub's client is not installed.
    """
    if find_spec("huggingface_hub") is None:
        raise ModelError("without huggingface_hub there is no cache of the hub")
    cache = _hub().constants.HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    name = repo_folder_name(repo_id=source.source, repo_type="model")
    return Path(cache) / name / "snapshots" / source.revision


def fetch(
    model_id: str, layout: str, source: Source, on_progress: Callable[[int, int], None]
) -> Path:
    """Fetch the files that the engine reads into the cache; see ``weights.download``."""
    if find_spec("huggingface_hub") is None:
        raise ModelError(f"model '{model_id}' cannot be fetched without huggingface_hub")
    hub = _hub()
    try:
        info = hub.HfApi(token=False).model_info(
            source.source, revision=source.revision, files_metadata=True
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        names = files.choose(layout, sizes)
        # Required files come last, the largest at the end: an interrupted download lacks one of
        # them, and so is not taken for a complete one.
        names.sort(key=lambda name: (files.is_required(layout, name), sizes[name]))
        if missing := files.missing(layout, names):
            raise ModelError(f"{source.source} has no {', '.join(missing)} at the pinned revision")
        total = sum(sizes[name] for name in names)
        finished = 0

        def report(file_bytes: int) -> None:
            on_progress(min(finished + file_bytes, total), total)

        for name in names:
            path = Path(
                hub.hf_hub_download(
                    source.source,
                    name,
                    revision=source.revision,
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
            f"the weights of model '{model_id}' cannot be fetched from {source.source}"
        ) from error
    return _root(path, name)


def _root(path: Path, name: str) -> Path:
    """Return the folder of a repository's commit, given one of its files and that file's name."""
    return path.parents[name.count("/")]


def newest(source: Source, layout: str) -> Commit:
    """Ask the hub for the newest commit of a repository, and for what the engine reads of it.

    Raises:
        ModelError: the hub cannot be reached, has no such repository or does not give it to
            everybody, or the engine's files are not in it.
    """
    if find_spec("huggingface_hub") is None:
        raise ModelError("the hub cannot be asked without huggingface_hub")
    hub, repository = _hub(), source.source
    try:
        info = hub.HfApi(token=False).model_info(
            repository, files_metadata=True, timeout=ASK_TIMEOUT_S
        )
    except hub.errors.GatedRepoError as error:
        raise ModelError(_gated(repository)) from error
    except hub.errors.RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no public repository {repository}") from error
    except hub.errors.OfflineModeIsEnabled as error:
        raise ModelError("the hub is not asked: HF_HUB_OFFLINE is set") from error
    except hub.errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise ModelError(f"the hub refuses to show {repository} ({status})") from error
        raise ModelError(f"the hub cannot tell about {repository} ({status})") from error
    except (hub.errors.HTTPError, OSError) as error:
        raise ModelError("the model hub does not answer") from error
    if info.gated:  # it can be looked at, but not fetched
        raise ModelError(_gated(repository))
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    names = files.choose(layout, sizes)
    if missing := files.missing(layout, names):
        lacking = ", ".join(missing)
        if lacking.startswith(files.SAFETENSORS) and any(n.endswith(".bin") for n in sizes):
            lacking += ": its weights are pickles, which are never read"
        raise ModelError(f"{repository} has no {lacking}")
    card = info.card_data.to_dict() if info.card_data else {}
    licence = card.get("license_name") or card.get("license") or "not stated"
    return Commit(info.sha, {name: sizes[name] for name in names}, str(licence))


def _gated(repository: str) -> str:
    return (
        f"{repository} is gated: it is given to those who have agreed to its owner's terms. Fetch "
        "it with your own account, and name the folder as 'file:PATH' in the catalogue"
    )


def is_offline() -> bool:
    """Whether the user has said that the hub must not be asked (``HF_HUB_OFFLINE``)."""
    return find_spec("huggingface_hub") is not None and bool(_hub().constants.is_offline_mode())


def answers() -> bool:
    """Whether the hub can be reached from here; an answer is waited for 5 s."""
    if find_spec("huggingface_hub") is None or is_offline():
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
