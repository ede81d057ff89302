"""What ``GET /health/status`` tells of live audio."""

from collections.abc import Iterable
from typing import Any

from api.live.hearer import LiveLoad
from api.live.sessions import LiveSessions
from shared.store.workers import WorkerView

_NOBODY = LiveLoad(workers=0, loaded=0, depth=0, partial_ms=0.0, final_ms=0.0, wait_ms=0.0)


def live_status(live: LiveSessions, workers: Iterable[WorkerView]) -> dict[str, Any]:
    """Return the members of ``Status`` that are about live audio."""
    model = live.default_model()
    load = _NOBODY if model is None else live.hearer.load(model.id)
    accepting = model is not None and live.accepts(model.id)
    told: dict[str, Any] = {
        "accepting_requests": accepting,
        "model": None,
        "queue": {
            "depth": load.depth,
            "avg_partial_ms": round(load.partial_ms, 1),
            "avg_final_ms": round(load.final_ms, 1),
            "estimated_server_total_ms": round(load.partial_ms + load.final_ms, 1),
            "accepting_requests": accepting,
            "total_requests": live.n_requests,
            "rejected_requests": live.n_refused,
        },
        "sessions": {"active": live.n_active, "max": live.settings.live_max_sessions},
        "capacity": _capacity(live, load),
    }
    if model is not None:
        worker = next((each for each in workers if each.model == model.id), None)
        told["model"] = {
            "model_size": model.id,
            "device": worker and worker.device,
            "compute_type": worker and worker.dtype,
            "ready": load.workers > 0,
        }
    return told


def _capacity(live: LiveSessions, load: LiveLoad) -> dict[str, Any]:
    if not load.partial_ms or not load.loaded:
        return {"estimated_max_concurrent": None, "current_load_percent": None}
    most = max(1, int(live.settings.live_max_wait_ms * load.loaded / load.partial_ms))
    return {
        "estimated_max_concurrent": most,
        "current_load_percent": round(100 * load.depth / most, 1),
    }
