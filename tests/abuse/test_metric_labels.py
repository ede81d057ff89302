"""What strangers can make the metrics grow by."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from itertools import chain

import prometheus_client
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry
from starlette.websockets import WebSocketDisconnect

import worker.metrics  # noqa: F401 - registers those of the workers
from api.app import create_app
from api.native.call_metrics import OTHER, UNKNOWN
from api.request_log import METHODS, OTHER_METHOD, UNMATCHED
from harness.live.hearers import ToneHearer
from shared.infra.errors import LonghandError
from shared.infra.settings import Settings
from shared.models.catalogue import load_catalogue
from shared.speech.live.events import EndReason
from shared.speech.live.requests import LiveKind
from shared.speech.text.languages import NAMES
from shared.store.queues import (
    CPU_QUEUE,
    DELIVER_QUEUE,
    FETCH_QUEUE,
    LARGE_QUEUE,
    LISTEN_QUEUE,
    model_queue,
)
from shared.store.states import JobState, StepState

ROUTES_WITHOUT_SCHEMA = {
    *("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/static-offline-docs"),
    *("/live", "/live/{name}", "/page/{path:path}", "/session", "/ws/stt", "/ws/transcribe"),
}
CALLS = {"success", "accepted", "rejected", "left", "error"}
STATUSES = CALLS | {str(status.value) for status in HTTPStatus}
N_INVENTED = 60


def error_codes(kind: type[LonghandError] = LonghandError) -> Iterator[str]:
    yield kind.code
    for narrower in kind.__subclasses__():
        yield from error_codes(narrower)


@pytest.fixture(scope="module")
def closed_sets(servers: Settings) -> Mapping[str, set[str]]:
    """All values that each label may have. A new label needs its set here."""
    catalogue = load_catalogue(servers.catalogue)
    models = [*catalogue.models, *catalogue.diarizers]
    fixed = {CPU_QUEUE, LARGE_QUEUE, FETCH_QUEUE, LISTEN_QUEUE, DELIVER_QUEUE}
    queues = {*fixed, *map(model_queue, models)}
    return {
        "method": {*METHODS, OTHER_METHOD},
        "route": {*create_app(servers).openapi()["paths"], *ROUTES_WITHOUT_SCHEMA, UNMATCHED},
        "status": STATUSES,
        "language": {*NAMES, UNKNOWN, OTHER},
        "reason": {*EndReason},
        "kind": {*LiveKind},
        "outcome": {"heard", "delivered", "failed", *error_codes()},
        "state": {*JobState, *StepState},
        "queue": queues,
        "role": {"beat", "cpu", "deliver", "diarize", "model"},
        "model": {"", *models},
    }


def labels_of(registry: CollectorRegistry) -> set[str]:
    names = (getattr(each, "_labelnames", ()) for each in registry._collector_to_names)
    return set(chain.from_iterable(names))


def test_every_label_of_every_metric_comes_from_a_closed_set(
    settings: Settings, closed_sets: Mapping[str, set[str]]
) -> None:
    """The server's parser knows some 30 methods; another one may pass all."""
    app = create_app(settings, ToneHearer().make)
    with TestClient(app, base_url="http://localhost") as client:
        for number in range(N_INVENTED):
            client.request(f"INVENTED{number}", "/jobs")
            client.request(f"INVENTED{number}", f"/nowhere/{number}")
            client.get(f"/jobs/{number}")
            client.get(f"/live/{number}.js")
        client.post("/jobs", data={"model": "invented"}, files={"file": b"no sound"})
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect("ws://localhost/ws/invented"),
        ):
            pass
        with client.websocket_connect("ws://localhost/ws/stt") as live:
            live.send_json(
                {"type": "start_session", "session_id": "s", "config": {"lang_code": "xqz"}}
            )
            live.send_json({"type": "end_session"})
            with suppress(WebSocketDisconnect):
                while True:
                    live.receive_json()
        for number in range(N_INVENTED):
            code = f"x{chr(97 + number // 26)}{chr(97 + number % 26)}"
            app.state.call_metrics.succeeded(
                "us", code, latency_s=0.1, hit=False, chunks=1, gpu_bytes=1
            )
        text = client.get("/metrics").text
        named = labels_of(app.state.registry) | labels_of(prometheus_client.REGISTRY)
    assert {"method", "route", "reason", "outcome", "language"} <= named <= closed_sets.keys()
    n_labelled = 0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for label, value in sample.labels.items():
                n_labelled += 1
                assert label == "le" or value in closed_sets[label], sample
    assert 100 < n_labelled < 1_000
