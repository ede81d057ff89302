"""The names of the service for Hausa."""

from docs.founding_kinds import (
    Exposed,
    FormField,
    Kind,
    LanguageName,
    Member,
    Route,
    Service,
    Setting,
    Shown,
)
from docs.founding_names.entries import CORS, here, left_out, members, model, renamed, variable

HAUSA = Service(
    "Hausa service",
    (
        here(Kind.ENDPOINT, "POST /transcribe", Route("POST", "/transcribe")),
        here(Kind.FIELD, "file", FormField("file"), "any container and codec"),
        *members("Transcription", "text", "latency_sec", "cache_hit", "chunks_processed"),
        here(
            Kind.FIELD,
            "wer, cer",
            Member("Transcription", "wer"),
            "null without a `reference`, never a made-up 0.0",
        ),
        here(
            Kind.FIELD,
            "cache_stats",
            Member("Transcription", "cache_stats"),
            "`hits`, `misses` and `hit_rate` of a tenant's calls to the process; no size, as "
            "transcripts are kept in the database",
        ),
        here(
            Kind.FIELD,
            "gpu_memory_used_mb",
            Member("Transcription", "gpu_memory_used_mb"),
            "null where it is not known",
        ),
        here(Kind.ENDPOINT, "GET /health", Route("GET", "/health"), "always 200"),
        *members("HealthSummary", "status", "timestamp"),
        here(
            Kind.FIELD,
            "language",
            Member("HealthSummary", "language"),
            "an ISO 639 code; null where the loaded models know several languages",
        ),
        here(Kind.ENDPOINT, "GET /ready", Route("GET", "/ready"), "503 while jobs cannot be taken"),
        *members("Readiness", "status", "timestamp", "language"),
        here(Kind.ENDPOINT, "GET /accuracy/stats", Route("GET", "/accuracy/stats")),
        here(
            Kind.FIELD, "cache_stats", Member("AccuracyStats", "cache_stats"), "of all jobs so far"
        ),
        *members("AccuracyStats", "note"),
        here(Kind.ENDPOINT, "GET /", Route("GET", "/")),
        *members("ServiceInfo", "service", "version", "model", "language", "endpoints"),
        here(Kind.ENDPOINT, "GET /metrics", Route("GET", "/metrics")),
        here(
            Kind.METRIC,
            "stt_requests_total",
            Exposed("stt_requests_total"),
            "`status` is success, accepted, rejected, left or error; `language` is an ISO 639 "
            "code, or unknown",
        ),
        here(Kind.METRIC, "stt_latency_seconds", Exposed("stt_latency_seconds")),
        here(
            Kind.METRIC,
            "stt_active_requests",
            Exposed("stt_active_requests"),
            "without `language`: it is not known before the transcript",
        ),
        here(Kind.METRIC, "stt_cache_hits_total", Exposed("stt_cache_hits_total")),
        here(
            Kind.METRIC,
            "cache_misses_total",
            Exposed("stt_cache_misses_total"),
            "as `stt_cache_misses_total`",
        ),
        here(Kind.METRIC, "stt_chunks_processed", Exposed("stt_chunks_processed")),
        here(
            Kind.METRIC,
            "stt_gpu_memory_used_mb",
            Exposed("stt_gpu_memory_used_mb"),
            "where it is known; each model worker has its own `longhand_device_memory_bytes`",
        ),
        here(Kind.METRIC, "stt_rejected_requests_total", Exposed("stt_rejected_requests_total")),
        here(
            Kind.METRIC,
            "cpu_usage_percent",
            Exposed("stt_cpu_usage_percent"),
            "as `stt_cpu_usage_percent`, of the API process; workers have `process_cpu_...`",
        ),
        here(
            Kind.METRIC,
            "memory_usage_mb",
            Exposed("stt_memory_usage_mb"),
            "as `stt_memory_usage_mb`, likewise",
        ),
        variable("MAX_CONCURRENCY", "how many clients wait; the queue decides what is computed"),
        here(
            Kind.BEHAVIOUR,
            "503 when busy",
            Shown(
                "tests/integration/calls/test_api_calls.py",
                "test_calls_beyond_the_capacity_are_refused_before_their_file_is_read",
            ),
            "with `Retry-After`",
        ),
        here(
            Kind.FIELD,
            "detail of an error",
            Member("Problem", "detail"),
            "one member of problem details (RFC 9457), beside a stable `code`",
        ),
        here(
            Kind.FIELD,
            "request_id",
            Member("Problem", "request_id"),
            "in errors, in the header `X-Request-Id` and in the log",
        ),
        here(
            Kind.BEHAVIOUR,
            "cache by the file's SHA-256",
            Shown(
                "tests/integration/calls/test_api_calls.py",
                "test_a_second_call_with_the_same_file_is_a_cache_hit",
            ),
            "together with the options and the model's weights; it outlives restarts",
        ),
        left_out(
            Kind.OPTION,
            "max_size=10 of the cache",
            "transcripts are kept as long as their jobs (`LONGHAND_KEEP_TRANSCRIPTS_S`)",
        ),
        renamed(
            Kind.OPTION,
            "threshold_db=-40",
            FormField("vad"),
            "`vad`: a detector of speech leaves silence out; `energy` has a threshold of its own",
        ),
        left_out(
            Kind.OPTION,
            "set_per_process_memory_fraction(0.95)",
            "only torch has such a share; batches fit what is free, and halve when memory is short",
        ),
        here(
            Kind.VARIABLE,
            "PYTORCH_CUDA_ALLOC_CONF",
            Shown(
                "tests/unit/project/test_founding.py",
                "test_a_variable_of_torch_reaches_the_workers",
            ),
            "torch reads it itself",
        ),
        left_out(
            Kind.OPTION,
            "chunks of 20, 25 or 30 s by free GPU memory",
            "a chunk is as long as the model's window; memory decides the size of a batch",
        ),
        renamed(
            Kind.OPTION,
            "overlap_seconds=2",
            Shown("tests/unit/speech/test_seams.py", "test_a_word_at_a_cut_is_kept_by_one"),
            "chunks are cut in silence; where there is none they overlap, and no word is doubled",
        ),
        renamed(
            Kind.OPTION,
            "port=8000",
            Setting("listen_port"),
            "`LONGHAND_LISTEN_PORT`, or `--port`",
        ),
        renamed(
            Kind.OPTION,
            'host="0.0.0.0"',
            Setting("listen_host"),
            "`LONGHAND_LISTEN_HOST`, or `--host`; loopback by default, beyond it with keys",
        ),
        model(
            "CLEAR-Global/w2v-bert-2.0-hausa_100_400h_yourtts",
            "w2v-bert-hausa",
            "to be pinned first",
        ),
        here(Kind.OPTION, 'LANGUAGE = "hausa"', LanguageName("hausa", "ha"), "`language=hausa`"),
        CORS,
        here(
            Kind.BEHAVIOUR,
            "the model is loaded before the first request",
            Shown(
                "tests/integration/queue/test_worker_start.py",
                "test_a_model_worker_is_loading_until_its_weights_are_there_and_then_ready",
            ),
        ),
        here(
            Kind.BEHAVIOUR,
            "float16, else float32",
            Setting("dtype"),
            "`LONGHAND_DTYPE=auto`: what the engine finds best for the device",
        ),
    ),
)
