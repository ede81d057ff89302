"""The names of the WebSocket server for Whisper."""

from docs.founding_kinds import Kind, Member, Route, Service, Setting, Shown
from docs.founding_names.entries import (
    CORS,
    MULTI_WORKER,
    here,
    left_out,
    members,
    model,
    renamed,
    spoken,
    variable,
)

_WS = "/ws/transcribe"

WEBSOCKET = Service(
    "Whisper WebSocket server",
    (
        here(Kind.ENDPOINT, "/ws/transcribe", Route("WS", _WS), "WebSocket"),
        *[
            spoken(_WS, word, Kind.MESSAGE)
            for word in ("config", "end", "interim", "final", "error")
        ],
        *[
            spoken(_WS, word)
            for word in ("language", "detect_language", "text", "chunks", "message")
        ],
        here(Kind.ENDPOINT, "GET /", Route("GET", "/")),
        *members("ServiceInfo", "status", "model", "device"),
        here(Kind.ENDPOINT, "GET /health", Route("GET", "/health")),
        here(
            Kind.FIELD,
            "status",
            Member("HealthSummary", "status"),
            "`initializing` until a worker has loaded its model, then `healthy`",
        ),
        *members("HealthSummary", "model_loaded"),
        left_out(
            Kind.VARIABLE,
            "MODEL_ID",
            "other programs use this name too; `LONGHAND_DEFAULT_MODEL` or `ASR_MODEL_ID`",
        ),
        left_out(
            Kind.VARIABLE,
            "DEVICE",
            "other programs use this name too; `LONGHAND_DEVICE` or `ASR_DEVICE`",
        ),
        variable("PORT", "as many hosts of containers set it"),
        left_out(
            Kind.VARIABLE,
            "HOST",
            "some shells and build tools set it to the machine's name, which would open the API "
            "to the network; `LONGHAND_LISTEN_HOST` or `STT_HOST`",
        ),
        left_out(Kind.OPTION, ".env", "only Compose reads it; elsewhere the environment counts"),
        model("openai/whisper-large-v3", "whisper-large-v3"),
        renamed(
            Kind.OPTION,
            "torch.compile(model)",
            Setting("torch_compile"),
            "`LONGHAND_TORCH_COMPILE`, engines on torch only",
        ),
        renamed(
            Kind.OPTION, "batch_size=16", Setting("max_batch"), "a bound: `LONGHAND_MAX_BATCH`"
        ),
        renamed(Kind.OPTION, "torch_dtype", Setting("dtype"), "`LONGHAND_DTYPE`"),
        left_out(
            Kind.OPTION,
            "chunk_length_s, max_new_tokens, low_cpu_mem_usage, attn_implementation",
            "the engine chooses them for the model",
        ),
        here(
            Kind.OPTION,
            'return_timestamps="word"',
            Member("Transcript", "segments"),
            "words always have times: `GET /jobs/{id}?include=words`",
        ),
        here(
            Kind.BEHAVIOUR,
            "language detection",
            Shown(
                "tests/conformance/test_whisper_engines.py",
                "test_language_is_detected_with_its_probability",
            ),
        ),
        left_out(Kind.BEHAVIOUR, "speaker diarization", "channels are told apart, voices are not"),
        MULTI_WORKER,
        CORS,
    ),
)
