"""A worker process's metrics for Prometheus; each process serves its own."""

from prometheus_client import Counter, Gauge, Histogram

LOAD_S = Gauge("longhand_model_load_seconds", "Time that a model took to load.", ["model"])
LOADED = Gauge("longhand_model_loaded", "Whether a model is in memory: 0 or 1.", ["model"])
WARM_UP_S = Gauge(
    "longhand_model_warm_up_seconds", "Time that a model's first inference took.", ["model"]
)
BATCH_SIZE = Histogram(
    "longhand_batch_chunks", "Chunks per batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
INFERENCE_S = Histogram(
    "longhand_batch_inference_seconds",
    "Time per batch on the device.",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)
AUDIO_S = Counter("longhand_audio_seconds", "Audio transcribed, strides included.")
LIVE_REQUESTS = Counter(
    "longhand_live_requests",
    "Live requests answered, by error code or as heard.",
    ["kind", "outcome"],
)
LIVE_S = Histogram(
    "longhand_live_request_seconds",
    "Time from taking a live request to its answer.",
    ["kind"],
    buckets=(0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10),
)
WEBHOOK_ATTEMPTS = Counter(
    "longhand_webhook_attempts", "Attempts to deliver webhook events.", ["outcome"]
)
DEVICE_MEMORY_BYTES = Gauge(
    "longhand_device_memory_bytes",
    "What this process holds of the device's memory; on a processor its resident memory.",
)
