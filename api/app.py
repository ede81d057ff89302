"""The application, made of its parts; nothing is global."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry, ProcessCollector

from api.access import admin, tokens
from api.access.routes import authorize, document_access
from api.browsers import install_browser_guard
from api.dialects.installed import install_dialects
from api.faces import install_faces
from api.intake.lingering_close import LingeringClose
from api.limits import routes as limits
from api.limits.dependencies import count_request
from api.limits.requests import RateLimitHeaders
from api.live import page, routes
from api.live.hearer import Hearer
from api.live.transcriber import Transcriber
from api.methods import Methods
from api.native import (
    accuracy,
    audio,
    batches,
    corrections,
    events,
    health,
    jobs,
    lifecycle,
    metrics,
    search,
    service,
    share_links,
    snapshots,
    speakers,
    transcribe,
    transcripts,
    usage,
    webhooks,
)
from api.native.call_metrics import CallMetrics
from api.openapi import EVERYWHERE, TAGS, install_schemas, operation_id
from api.outages import Outages
from api.page import feed, files, login, shared
from api.parameters import refuse_unknown_parameters
from api.problems import error_response
from api.request_log import Observer
from api.resources import open_resources
from api.uploads import routes as uploads
from api.uploads import tus
from api.uploads.transfers import MAX_RESUMABLE_BYTES
from api.uploads.tus_headers import TusHeaders
from shared import __version__
from shared.infra.settings import Settings, get_settings

PAUSE_S = 7.0
"""How long a stopping server waits for the pause in which a live session is ended."""
FINAL_S = 2.0
"""How long it waits for the finals after that."""
CLEANUP_S = 10.0
"""How long a stopping server waits until uploads that it cut off are removed."""


def create_app(
    settings: Settings | None = None, make_hearer: Callable[[Settings], Hearer] = Transcriber
) -> FastAPI:
    """Return the application; it opens its connections when it starts and closes them at the end.

    ``make_hearer`` is called when it starts, and returns who hears live sessions.
    Its start raises ``ModelError`` if the catalogue cannot be read or lacks a model of a setting.
    """
    chosen = settings or get_settings()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        hearer = make_hearer(chosen)
        with open_resources(chosen, registry, hearer) as resources:
            app.state.resources = resources
            await hearer.start()
            app.state.health = health.Health(resources, app.state.outages)
            app.state.snapshots = snapshots.make_loader(resources)
            app.state.news = events.make_loader(resources)
            app.state.feed = feed.make_loader(resources)
            yield
            app.state.snapshots.close()
            app.state.news.close()
            app.state.feed.close()
            await resources.live.checkpoints.close()
            await resources.recordings.drain(CLEANUP_S)
            await resources.live.usage.drain(CLEANUP_S)
            await resources.request_counter.close()
            await hearer.close()
            await resources.authenticator.close()
            await asyncio.to_thread(resources.live.decoders.close)
            await resources.intake.drain(CLEANUP_S)
            await resources.uploads.close()

    # FastAPIOffline serves the documentation's scripts: nothing is fetched from elsewhere.
    app = FastAPIOffline(
        title="Longhand",
        summary="Speech to text for teams who run it themselves.",
        version=__version__,
        lifespan=lifespan,
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
        # A redirect would name the host that the client has sent.
        redirect_slashes=False,
    )
    app.state.registry = registry
    app.state.call_metrics = CallMetrics(registry)
    app.state.outages = Outages()
    install_faces(app, error_response)
    install_schemas(app)
    checks = [Depends(authorize), Depends(refuse_unknown_parameters)]
    counting = [Depends(authorize), Depends(count_request), Depends(refuse_unknown_parameters)]
    counted = (
        *(
            transcribe,
            lifecycle,
            batches,
            jobs,
            transcripts,
            corrections,
            share_links,
            speakers,
            audio,
            search,
            events,
            feed,
        ),
        *(webhooks, accuracy, usage, tokens, admin, limits, tus, uploads),
        service,
    )
    for area in (*counted, health, metrics):
        document_access(area.router)
        dependencies = counting if area in counted else checks
        app.include_router(area.router, dependencies=dependencies, responses=EVERYWHERE)
    install_dialects(app, [Depends(authorize), Depends(count_request)])
    app.include_router(routes.router)
    app.include_router(page.router)
    app.include_router(files.router)
    for area in (login, shared):
        app.include_router(area.router, dependencies=[Depends(refuse_unknown_parameters)])
    app.add_middleware(RateLimitHeaders)
    # The middleware added last is the outermost: a request's duration does not include lingering.
    app.add_middleware(Methods)
    most = min(chosen.max_upload_bytes, MAX_RESUMABLE_BYTES)
    app.add_middleware(TusHeaders, max_bytes=most)
    install_browser_guard(app, chosen)
    app.add_middleware(Observer, registry=registry)
    app.add_middleware(LingeringClose)
    return app


def end_waits(app: FastAPI) -> None:
    """End all waits for news of jobs: a stopping server waits for requests under way."""
    app.state.resources.watcher.stop()


async def drain_sessions(app: FastAPI) -> None:
    """End all live sessions, as the server stops; readiness says so meanwhile."""
    await app.state.resources.live.drain(PAUSE_S, FINAL_S)
