"""The metrics of synchronous calls, and what the cache saved them, within this process."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import prometheus_client
from prometheus_client import Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from api.native.schemas.accuracy import CacheUse
from shared.speech.text.languages import NAMES

UNKNOWN = "unknown"
"""The language of a call that has no transcript, or one without a language."""
OTHER = "other"
"""Any language that is not in our list: some models take whatever code a client names."""

_LATENCY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_MB = 1_000_000


class CallMetrics:
    """Counts calls, under names that clients of other services know."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, meaning: str, *labels: str) -> prometheus_client.Counter:
            return prometheus_client.Counter(name, meaning, labels, registry=registry)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(name, meaning, ["language"], registry=registry)

        self._requests = counter(
            "stt_requests",
            "Synchronous calls by outcome: success, accepted (202), rejected, left, error.",
            *("language", "status"),
        )
        self._latency_s = Histogram(
            "stt_latency_seconds",
            "Time from the head of a synchronous call to its transcript.",
            ["language"],
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._active = Gauge(
            "stt_active_requests", "Synchronous calls under way.", registry=registry
        )
        self._hits = counter("stt_cache_hits", "Calls answered from an equal one.", "language")
        self._misses = counter("stt_cache_misses", "Calls that were transcribed.", "language")
        self._chunks = gauge("stt_chunks_processed", "Chunks of the latest call's transcript.")
        self._gpu_mb = gauge(
            "stt_gpu_memory_used_mb",
            "GPU memory of the model's process in the latest call of which that is known, in MB.",
        )
        self._rejected = counter(
            "stt_rejected_requests", "Synchronous calls refused at capacity.", "language"
        )
        registry.register(ProcessUse())
        self._tenants: dict[str, Counter[bool]] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Count a call as under way while the block runs."""
        with self._active.track_inprogress():
            yield

    def rejected(self) -> None:
        """Count a call that found no place."""
        self._rejected.labels(UNKNOWN).inc()
        self.ended("rejected")

    def ended(self, status: str) -> None:
        """Count a call that has no transcript."""
        self._requests.labels(UNKNOWN, status).inc()

    def succeeded(
        self,
        tenant: str,
        language: str | None,
        *,
        latency_s: float,
        hit: bool,
        chunks: int,
        gpu_bytes: int | None,
    ) -> CacheUse:
        """Count a call that has its transcript; return what the cache has saved so far."""
        label = UNKNOWN if language is None else language if language in NAMES else OTHER
        self._requests.labels(label, "success").inc()
        self._latency_s.labels(label).observe(latency_s)
        (self._hits if hit else self._misses).labels(label).inc()
        self._chunks.labels(label).set(chunks)
        if gpu_bytes is not None:
            self._gpu_mb.labels(label).set(gpu_bytes / _MB)
        use = self._tenants.setdefault(tenant, Counter())
        use[hit] += 1
        return CacheUse(
            hits=use[True], misses=use[False], hit_rate=round(use[True] / use.total(), 4)
        )


class ProcessUse(Collector):
    """This process's use of processors and memory, measured whenever it is scraped."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        """Begin to count; both clocks are in seconds."""
        self._clock, self._cpu_clock = clock, cpu_clock
        self._at_s, self._used_s = clock(), cpu_clock()

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; memory only where the system tells it (proc(5))."""
        at_s, used_s = self._clock(), self._cpu_clock()
        percent = 100 * (used_s - self._used_s) / max(at_s - self._at_s, 1e-3)
        self._at_s, self._used_s = at_s, used_s
        yield GaugeMetricFamily(
            "stt_cpu_usage_percent",
            "Processor time of this API process since the last scrape; 100: one processor.",
            value=percent,
        )
        statm = Path("/proc/self/statm")
        if statm.exists():
            resident = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            yield GaugeMetricFamily(
                "stt_memory_usage_mb",
                "Resident memory of this API process, in MB.",
                value=resident / _MB,
            )
