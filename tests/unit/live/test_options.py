"""What follows from a client's wishes and the settings."""

import pytest
from prometheus_client import CollectorRegistry

from api.limits.live_usage import LiveUsage
from api.limits.places import no_limit
from api.live.errors import LiveError
from api.live.sessions import LiveMetrics, LiveSessions, Wish
from harness.live.hearers import ToneHearer
from shared.infra.settings import Settings
from shared.models.catalogue import read_catalogue
from shared.models.options import JobOptions
from shared.speech.audio.rate import SAMPLE_RATE


def sessions(settings: Settings, *served: str) -> LiveSessions:
    hearer = ToneHearer(models=frozenset(served))
    metrics = LiveMetrics.of(CollectorRegistry())
    usage = LiveUsage(lambda *_: None)
    return LiveSessions(settings, read_catalogue(settings), hearer, metrics, usage, no_limit)


def test_no_request_is_longer_than_what_the_model_hears_at_once() -> None:
    options = sessions(Settings(), "starter").options_of(Wish(JobOptions()))

    assert (options.model, options.language) == ("starter", "en")
    assert options.max_utterance == 15 * SAMPLE_RATE
    assert options.partial_window == 8 * SAMPLE_RATE


def test_settings_hold_for_what_a_client_does_not_say() -> None:
    settings = Settings(live_vad=False, live_vad_threshold=0.3, live_min_silence_ms=700)
    live = sessions(settings, "whisper-base")

    silent = live.options_of(Wish(JobOptions()))
    spoken = live.options_of(Wish(JobOptions(language="de"), vad=True, threshold=0.7))

    assert (silent.vad, silent.threshold, silent.language) == ("off", 0.3, None)
    assert (spoken.vad, spoken.threshold, spoken.language) == ("silero", 0.7, "de")
    assert silent.min_silence == 11_200


def test_the_model_is_one_that_hears_live_and_knows_the_language() -> None:
    live = sessions(Settings(), "whisper-tiny", "starter")

    assert live.choose(JobOptions(language="fr")).id == "whisper-tiny"
    with pytest.raises(LiveError) as refused:
        live.choose(JobOptions(model="starter", language="fr"))
    assert refused.value.code == "INVALID_MESSAGE"
