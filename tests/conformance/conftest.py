"""The catalogue, and a Whisper in the cache."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from randomwhisper import write_random_whisper

from shared.catalogue import Model, load_catalogue


@pytest.fixture(scope="session")
def catalogue_models() -> dict[str, Model]:
    return dict(load_catalogue(Path(__file__).parents[2] / "models.toml").models)


@pytest.fixture(scope="session")
def random_whisper(
    catalogue_models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    """Put random weights where the cache keeps those of whisper-tiny; yield its catalogue entry."""
    model = catalogue_models["whisper-tiny"]
    cache = tmp_path_factory.mktemp("hub")
    folder = cache / f"models--{model.source.replace('/', '--')}" / "snapshots" / model.revision
    folder.mkdir(parents=True)
    write_random_whisper(folder, model.languages or ())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        yield model
