"""What each tenant has under way and has used today, for Prometheus; asked for at each scrape.

The worker that sweeps tells it and the API does not: whoever reaches the API must learn of no other
tenant.
"""

import logging
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from shared.infra.errors import DatabaseUnavailable
from shared.store.usage import tenants_today

log = logging.getLogger(__name__)

MOST_TENANTS = 100
"""Those with the most audio today: an issuer of tokens may name any number of tenants."""


class TenantMetrics(Collector):
    """Gauges by tenant; none while Postgres is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterator[Metric]:
        """Yield the gauges without values: nothing is asked until there is a scrape."""
        yield from _gauges().values()

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        try:
            tenants = tenants_today(self._engine, most=MOST_TENANTS)
        except DatabaseUnavailable as error:
            log.warning("%s: nothing is told of tenants", error)
            return
        gauges = _gauges()
        for each in tenants:
            gauges["jobs"].add_metric([each.tenant, "queued"], each.queued)
            gauges["jobs"].add_metric([each.tenant, "running"], each.running)
            gauges["ended"].add_metric([each.tenant], each.jobs)
            gauges["audio"].add_metric([each.tenant], each.audio_s)
            gauges["model"].add_metric([each.tenant], each.model_s)
            gauges["live"].add_metric([each.tenant], each.live_s)
        yield from gauges.values()


def _gauges() -> dict[str, GaugeMetricFamily]:
    """Return gauges without values. Those of today fall to 0 at midnight (UTC), as counters may."""

    def gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"longhand_tenant_{name}", meaning, labels=["tenant", *labels])

    return {
        "jobs": gauge("jobs", "A tenant's jobs that wait or run.", "state"),
        "ended": gauge("jobs_ended_today", "A tenant's jobs that ended today."),
        "audio": gauge("audio_seconds_today", "Audio transcribed for a tenant today."),
        "model": gauge("model_seconds_today", "What the models' calls for it took."),
        "live": gauge("live_seconds_today", "Audio of a tenant's live sessions today."),
    }
