"""Metrics in Prometheus' text format."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from api.access.routes import public
from api.native.health import Load, Provided
from api.resources import from_state
from shared.infra.errors import LonghandError
from shared.store.counts import MOST_COUNTED

SCRAPE_LIMIT_S = 3.0
"""How long a scrape waits for Postgres; Prometheus gives up after 10 s by default."""

router = APIRouter(tags=["health"])


@dataclass(frozen=True, slots=True)
class LoadCollector:
    """Gauges that are read from Postgres; only ``longhand_database_up`` while that is away."""

    load: Load | None

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        yield GaugeMetricFamily(
            "longhand_database_up",
            "Whether the gauges of jobs, steps and workers could be read.",
            value=float(self.load is not None),
        )
        if self.load is None:
            return
        jobs = GaugeMetricFamily(
            "longhand_jobs",
            f"Jobs by state; past {MOST_COUNTED} jobs those that have ended are estimated.",
            labels=["state"],
        )
        for state, n_jobs in self.load.jobs.by_state.items():
            jobs.add_metric([state], n_jobs)
        yield jobs
        yield GaugeMetricFamily(
            "longhand_jobs_cached",
            "Jobs that succeeded with the transcript of an equal one; estimated in the same way.",
            value=self.load.jobs.cached,
        )
        steps = GaugeMetricFamily(
            "longhand_steps", "Steps of active jobs.", labels=["queue", "state"]
        )
        queued_audio = GaugeMetricFamily(
            "longhand_queued_audio_seconds", "Audio of the chunks that wait.", labels=["queue"]
        )
        running_audio = GaugeMetricFamily(
            "longhand_running_audio_seconds",
            "Audio of the chunks that workers have in hand.",
            labels=["queue"],
        )
        oldest = GaugeMetricFamily(
            "longhand_oldest_step_age_seconds",
            "For how long the oldest waiting step has been due.",
            labels=["queue"],
        )
        for queue in self.load.queues:
            steps.add_metric([queue.queue, "queued"], queue.queued_steps)
            steps.add_metric([queue.queue, "running"], queue.running_steps)
            queued_audio.add_metric([queue.queue], queue.queued_audio_s)
            running_audio.add_metric([queue.queue], queue.running_audio_s)
            oldest.add_metric([queue.queue], queue.oldest_due_s)
        yield steps
        yield queued_audio
        yield running_audio
        yield oldest
        if self.load.backlog.wait_s is not None:
            yield GaugeMetricFamily(
                "longhand_estimated_drain_seconds",
                "How long the jobs that wait or run will take, by how fast jobs have ended lately.",
                value=self.load.backlog.wait_s,
            )
        workers = GaugeMetricFamily("longhand_workers", "Living workers.", labels=["role", "model"])
        alike = Counter((worker.role, worker.model or "") for worker in self.load.workers)
        for labels, n_workers in alike.items():
            workers.add_metric(labels, n_workers)
        yield workers
        failing = GaugeMetricFamily(
            "longhand_workers_failing",
            "Living workers that fail at all steps of a kind.",
            labels=["role", "model"],
        )
        for labels in alike:
            n_failing = sum(
                bool(worker.failing)
                for worker in self.load.workers
                if (worker.role, worker.model or "") == labels
            )
            failing.add_metric(labels, n_failing)
        yield failing


@public
@router.get(
    "/metrics",
    summary="Get metrics for Prometheus",
    response_class=Response,
    responses={200: {"description": "Prometheus' text format", "content": {"text/plain": {}}}},
)
async def show_metrics(
    health: Provided, registry: Annotated[CollectorRegistry, from_state("registry")]
) -> Response:
    """Report this process's requests, and jobs, steps and workers of the whole platform."""
    try:
        load = await health.load.ask(SCRAPE_LIMIT_S)
    except (LonghandError, TimeoutError):
        load = None
    body = generate_latest(registry) + generate_latest(LoadCollector(load))
    return Response(body, media_type=CONTENT_TYPE_LATEST)
