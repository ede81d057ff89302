"""Metrics of synchronous calls."""

from prometheus_client import CollectorRegistry, generate_latest

from api.native.call_metrics import CallMetrics, ProcessUse


def test_processor_time_is_told_as_a_share_of_the_time_since_the_last_scrape() -> None:
    now_s, used_s = 100.0, 5.0
    use = ProcessUse(lambda: now_s, lambda: used_s)

    def told() -> dict[str, float]:
        return {sample.name: sample.value for metric in use.collect() for sample in metric.samples}

    now_s, used_s = 110.0, 6.0
    assert told()["stt_cpu_usage_percent"] == 10.0
    now_s, used_s = 111.0, 8.0
    assert told()["stt_cpu_usage_percent"] == 200.0
    assert told()["stt_cpu_usage_percent"] == 0.0, "twice at the same moment"
    assert 1 < told()["stt_memory_usage_mb"] < 100_000


def test_what_the_cache_saved_is_told_to_each_tenant_alone() -> None:
    metrics = CallMetrics(CollectorRegistry())

    def call(tenant: str, hit: bool) -> tuple[int, int, float | None]:
        use = metrics.succeeded(tenant, "ha", latency_s=0.1, hit=hit, chunks=3, gpu_bytes=None)
        return use.hits, use.misses, use.hit_rate

    assert call("us", False) == (0, 1, 0.0)
    assert call("us", True) == (1, 1, 0.5)
    assert call("them", True) == (1, 0, 1.0)


def test_a_speech_without_a_known_language_is_counted_too() -> None:
    registry = CollectorRegistry()
    CallMetrics(registry).succeeded(
        "us", None, latency_s=0.1, hit=False, chunks=3, gpu_bytes=2_000_000
    )
    told = generate_latest(registry).decode()
    assert 'stt_chunks_processed{language="unknown"} 3.0' in told
    assert 'stt_gpu_memory_used_mb{language="unknown"} 2.0' in told
