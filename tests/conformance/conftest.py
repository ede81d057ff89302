"""The catalogue, a Whisper in the cache, and models of every other family in folders."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest

from harness.engines.random_ctc import WRITERS, catalogue_entry
from harness.engines.random_whisper import write_random_transformers_whisper, write_random_whisper
from shared.models.catalogue import Model, load_catalogue
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples


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


@pytest.fixture(scope="session")
def random_ctcs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """Write networks with CTC and random weights; return their catalogue entries."""
    folder = tmp_path_factory.mktemp("ctc")
    for model_id, write in WRITERS.items():
        write(folder / model_id)
    return {model_id: catalogue_entry(model_id, folder / model_id) for model_id in WRITERS}


@pytest.fixture(scope="session")
def random_transformers_whisper(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Write a Whisper for transformers; return its catalogue entry."""
    folder = tmp_path_factory.mktemp("transformers") / "whisper"
    languages = frozenset({"de", "en", "fr", "jv"})
    write_random_transformers_whisper(folder, languages)
    model = catalogue_entry("random-whisper", folder, "transformers-whisper")
    return model.model_copy(update={"languages": languages})


@pytest.fixture(scope="session")
def noises() -> list[Samples]:
    """A second and seven seconds, in which random weights hear something."""
    rng = np.random.default_rng(1)
    lengths = (SAMPLE_RATE, 7 * SAMPLE_RATE)
    return [rng.normal(0, 0.1, n).astype(np.float32) for n in lengths]
