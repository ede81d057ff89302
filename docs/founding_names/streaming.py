"""The names of the service with sessions over a WebSocket."""

from docs.founding_kinds import Kind, Member, Name, Route, Service, Variable
from docs.founding_names.entries import here, left_out, model, renamed, spoken, variable

_STT = "/ws/stt"


def _status(schema: str, *names: str) -> list[Name]:
    says = "of `GET /health/status`"
    return [here(Kind.FIELD, name, Member(schema, name), says) for name in names]


def _said(word: str, kind: Kind = Kind.FIELD) -> Name:
    return spoken(_STT, word, kind)


STREAMING = Service(
    "Streaming STT service",
    (
        here(Kind.ENDPOINT, "/ws/stt", Route("WS", _STT), "WebSocket"),
        *[
            _said(word, Kind.MESSAGE)
            for word in (
                *("start_session", "flush", "end_session", "cancel", "session_started"),
                *("vad_event", "partial_transcript", "final_transcript", "error", "session_ended"),
            )
        ],
        *map(_said, ("session_id", "config", "lang_code", "sample_rate", "vad_enabled")),
        *map(_said, ("vad_threshold", "partial_results", "word_timestamps")),
        *map(_said, ("state", "t_ms", "speech_start", "speech_end")),
        *map(_said, ("segment_id", "text", "confidence", "is_final", "timing")),
        *map(_said, ("preprocess_ms", "queue_wait_ms", "inference_ms", "postprocess_ms")),
        *map(_said, ("server_total_ms", "words", "word", "start", "end", "probability")),
        *map(_said, ("audio_duration_ms", "code", "message", "reason", "total_audio_ms")),
        *map(_said, ("total_segments", "completed", "cancelled", "timeout")),
        *[
            _said(word, Kind.CODE)
            for word in (
                *("INVALID_MESSAGE", "SESSION_EXISTS", "MAX_SESSIONS_REACHED", "QUEUE_FULL"),
                *("QUEUE_CONGESTION", "INFERENCE_ERROR", "INTERNAL_ERROR"),
            )
        ],
        renamed(
            Kind.VARIABLE,
            "STT_HOST",
            Variable("STT_HOST"),
            "`LONGHAND_LISTEN_HOST`; loopback by default; beyond it, keys are asked for",
        ),
        variable("STT_PORT"),
        variable("STT_MAX_SESSIONS"),
        variable("STT_WHISPER_MODEL", "`auto` by default, not a model that may not be here"),
        variable("STT_COMPUTE_TYPE", "`auto` by default"),
        variable("STT_DEVICE", "`auto` by default"),
        variable("STT_LANGUAGE", "none by default: it is detected"),
        variable("STT_VAD_ENABLED"),
        variable("STT_VAD_THRESHOLD"),
        variable("STT_VAD_MIN_SPEECH_MS"),
        variable("STT_VAD_MIN_SILENCE_MS"),
        variable("STT_PARTIAL_INTERVAL_MS"),
        variable("STT_MAX_PARTIAL_WINDOW_S"),
        variable("STT_MAX_UTTERANCE_S"),
        variable("STT_MAX_BUFFER_MS"),
        variable("STT_MAX_QUEUE_DEPTH"),
        variable("STT_MAX_ESTIMATED_SERVER_TOTAL_MS"),
        variable("STT_LOG_LEVEL"),
        here(Kind.ENDPOINT, "GET /", Route("GET", "/")),
        here(
            Kind.ENDPOINT,
            "GET /health/ready",
            Route("GET", "/health/ready"),
            "503 while jobs cannot be taken; `model_loaded` and `models` tell of the models",
        ),
        here(Kind.ENDPOINT, "GET /health/live", Route("GET", "/health/live")),
        here(Kind.ENDPOINT, "GET /health/startup", Route("GET", "/health/startup")),
        here(Kind.ENDPOINT, "GET /health/status", Route("GET", "/health/status")),
        here(Kind.FIELD, "status", Member("Status", "status")),
        *_status("Status", "accepting_requests", "model", "queue", "sessions", "capacity"),
        *_status("LiveModel", "model_size", "device", "compute_type", "ready"),
        *_status("LiveQueue", "depth", "avg_partial_ms", "avg_final_ms"),
        *_status("LiveQueue", "estimated_server_total_ms", "accepting_requests"),
        *_status("LiveQueue", "total_requests", "rejected_requests"),
        *_status("LiveSessionCount", "active", "max"),
        *_status("LiveCapacity", "estimated_max_concurrent", "current_load_percent"),
        here(Kind.ENDPOINT, "GET /metrics", Route("GET", "/metrics")),
        model(
            "distil-large-v3",
            "distil-whisper-large-v3",
            "it knows English only: a job in another language is refused",
        ),
        model("large-v3", "whisper-large-v3"),
        model("medium", "whisper-medium"),
        model("small", "whisper-small"),
        model("base", "whisper-base"),
        left_out(
            Kind.OPTION,
            "WHISPER_MODEL (docker build)",
            "an image has no weights: they are fetched once into a volume, or mounted",
        ),
        left_out(
            Kind.OPTION,
            "beam_size",
            "each model has its own in the catalogue (`decode`), so that sessions share batches",
        ),
    ),
)
