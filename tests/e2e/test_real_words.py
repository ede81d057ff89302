"""Real words through the whole platform: upload, chunks, every engine, accuracy in the answer.

The engines hear real weights in tests/conformance/test_real_weights.py, the platform does in
test_cli_models.py.
"""

import wave
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest

from harness.engines.trained_models import (
    CATALOGUE,
    FRAMEWISE,
    MODELS,
    MOST_WORD_ERRORS,
    WHISPERS,
    Sentence,
    heldout,
    recite,
)
from harness.programs.workers import Fleet, fleet, wait_until
from harness.servers.api_server import api
from shared.infra.settings import Settings
from shared.speech.audio.rate import SAMPLE_RATE


@pytest.fixture(scope="module")
def platform(
    module_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, Fleet]]:
    """The API and a CPU worker, with a catalogue of the trained models."""
    trained = CATALOGUE.read_text().replace('"file:', f'"file:{MODELS}/')
    catalogue = tmp_path_factory.mktemp("catalogue") / "models.toml"
    catalogue.write_text(trained)
    chosen = module_settings.model_copy(
        update={
            "catalogue": catalogue,
            "default_model": WHISPERS[0],
            "on_demand_models": ",".join(
                (*WHISPERS, *FRAMEWISE)
            ),  # their workers start as jobs come
        }
    )
    with fleet(chosen, tmp_path_factory.mktemp("logs")) as workers, api(chosen) as client:
        workers.start("cpu", "--concurrency", "1")
        workers.start("beat")
        yield client, workers


def wav(sentence: Sentence) -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE)
        sound.writeframes(np.round(sentence.samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def transcribed(
    platform: tuple[httpx.Client, Fleet], model: str, audio: bytes, text: str
) -> dict[str, Any]:
    """Return the job that a model's worker has done, with its words."""
    client, workers = platform
    worker = workers.start("model", "--model", model)
    posted = client.post(
        "/jobs", data={"model": model, "reference": text}, files={"file": ("speech.wav", audio)}
    )
    assert posted.status_code == 202, posted.text

    def ended() -> dict[str, Any] | None:
        url = f"/jobs/{posted.json()['id']}"
        job: dict[str, Any] = client.get(url, params={"include": "words"}).json()
        # Without a state it is a problem: a busy server asks to come back later.
        return job if job.get("state") in ("succeeded", "failed") else None

    job = wait_until(ended, within_s=240)
    worker.stop()
    assert job["state"] == "succeeded", job["error"]
    return job


@pytest.mark.parametrize("model", WHISPERS + FRAMEWISE)
def test_a_recital_longer_than_a_window_is_heard_word_for_word(
    platform: tuple[httpx.Client, Fleet], model: str
) -> None:
    recital, starts = recite(heldout())
    assert len(recital.samples) > 30 * SAMPLE_RATE

    job = transcribed(platform, model, wav(recital), recital.text)

    assert job["metrics"]["accuracy"]["wer"] <= MOST_WORD_ERRORS, job["transcript"]["text"]
    assert job["transcript"]["language"] == "en"  # detected by the Whispers, known of the others
    words = [word for segment in job["transcript"]["segments"] for word in segment["words"]]
    last = len(heldout()[-1].text.split())
    assert words[-last]["start"] >= starts[-1] / SAMPLE_RATE - 0.25
