"""The three servers: reached, of a version that is known to do, set up as they should be."""

import time
from collections.abc import Iterator
from uuid import uuid4

import redis
from sqlalchemy import Engine, make_url, text

from cli.doctor.findings import Finding, bad, good, warning
from shared.infra.database import EVERY_TENANT, make_engine, read
from shared.infra.errors import BrokerUnavailable
from shared.infra.schema import check, own_revision
from shared.infra.settings import API_ROLE, WORKER_ROLE, Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.store.objects.removals import try_upload
from shared.store.workers import WorkerView, live_workers

POSTGRES, REDIS, STORAGE, WORKERS = "Postgres", "Redis", "object store", "workers"
LEAST_POSTGRES = 15
"""The oldest major version that is tried."""
MOST_SKEW_S = 5.0
"""Postgres' clock counts for all that is timed; signatures of S3 tolerate minutes."""
SLOW_S = 0.02
"""A short job waits for Postgres some twelve times."""


def postgres(settings: Settings) -> Iterator[Finding]:
    """Look at Postgres, as the user of ``LONGHAND_DATABASE_URL``."""
    engine = make_engine(settings, pool_size=1)
    try:
        yield from _server(engine)
        revision, own = check(engine), own_revision()
        newer = "this version's" if revision == own else f"newer than {own}, and this version works"
        yield good(POSTGRES, f"schema {revision}: {newer}")
        yield from _user(engine)
        try_upload(engine)
        yield good(POSTGRES, "rows can be written")
    finally:
        engine.dispose()


def _server(engine: Engine) -> Iterator[Finding]:
    with read(engine) as connection:
        connection.execute(text("SELECT 1"))  # the connection is made
        began = time.time()
        row = connection.execute(
            text("""
                SELECT current_setting('server_version') AS version,
                       current_setting('server_version_num')::int / 10000 AS major,
                       current_setting('max_connections')::int AS most,
                       current_setting('fsync') AS fsync,
                       extract(epoch FROM clock_timestamp())::float8 AS now,
                       pg_is_in_recovery() AS is_standby
            """)
        ).one()
        took_s = time.time() - began
    skew_s = row.now - (began + took_s / 2)
    where = make_url(str(engine.url))
    yield good(POSTGRES, f"version {row.version} at {where.host}:{where.port or 5432}")
    if row.major < LEAST_POSTGRES:
        yield bad(POSTGRES, f"version {row.major} is older than {LEAST_POSTGRES}")
    if row.is_standby:
        yield bad(POSTGRES, "it is a standby, which takes no writes")
    if row.fsync != "on":
        yield warning(POSTGRES, "fsync is off: a power cut may cost all jobs")
    if took_s > SLOW_S:
        yield warning(
            POSTGRES, f"a round trip takes {took_s * 1000:.0f} ms: short jobs wait for it"
        )
    if abs(skew_s) > MOST_SKEW_S:
        off = "behind" if skew_s > 0 else "ahead of"
        yield warning(POSTGRES, f"this machine's clock is {abs(skew_s):.0f} s {off} its")
    if row.most < 100:
        yield warning(POSTGRES, f"max_connections is {row.most}: each process may need 40")


def _user(engine: Engine) -> Iterator[Finding]:
    """Tell whether row-level security stands behind the API's filters."""
    with read(engine, EVERY_TENANT) as connection:
        row = connection.execute(
            text("""
                SELECT current_user AS name, rolsuper OR rolbypassrls AS is_free,
                       rolname = (SELECT tableowner FROM pg_tables WHERE tablename = 'jobs'
                                  AND schemaname = current_schema()) AS owns
                FROM pg_roles WHERE rolname = current_user
            """)
        ).one()
    if row.name in (API_ROLE, WORKER_ROLE):
        yield good(POSTGRES, f"this process is {row.name}, which sees what it must")
    else:
        kind = "the tables' owner" if row.owns else "no role of Longhand's"
        yield warning(
            POSTGRES,
            f"this process is {row.name}, {kind}: run the API as {API_ROLE} and workers as "
            f"{WORKER_ROLE} (docs/security.md)",
        )


def broker(settings: Settings) -> Iterator[Finding]:
    """Look at Redis or Valkey."""
    url = settings.broker_url.get_secret_value()
    try:
        with redis.Redis.from_url(
            url, socket_connect_timeout=2, socket_timeout=2, retry=None, decode_responses=True
        ) as client:
            about = client.info()
            limit = client.config_get("maxmemory-policy", "maxmemory", "save", "appendonly")
    except redis.ResponseError as error:  # CONFIG is forbidden by many hosts
        yield warning(REDIS, f"it does not tell how it is set up: {error}")
        return
    except redis.RedisError as error:
        raise BrokerUnavailable(f"it cannot be reached: {error}") from error
    yield good(REDIS, f"version {about.get('valkey_version') or about['redis_version']}")
    policy = limit.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        yield bad(
            REDIS,
            f"maxmemory-policy is {policy}, not noeviction: wake-ups and speech are forgotten",
        )
    if limit.get("save") or limit.get("appendonly") == "yes":
        yield warning(
            REDIS, "it writes to its disk, and so speech of live sessions; nothing in it must last"
        )
    if about.get("role") != "master":
        yield bad(REDIS, "it is a replica, which takes no writes")


def storage(settings: Settings) -> Iterator[Finding]:
    """Look at the object store: write, read and remove an object, and begin a large one."""
    store = Storage(settings.storage_url.get_secret_value(), read_timeout_s=5.0, attempts=1)
    key = f"health/doctor-{uuid4()}"
    store.put(key, b"longhand")
    try:
        if store.read(key, 2, 5) != b"ngh":
            yield bad(STORAGE, "it ignores Range: workers would read whole files for each chunk")
        else:
            yield good(STORAGE, "an object can be written, and read in part")
    finally:
        store.delete([key])
    upload = store.start_upload(key)
    try:
        upload.send(1, bytes(PART_BYTES))
        yield good(STORAGE, "a large file can be uploaded in parts")
    finally:
        upload.abort()


def workers(settings: Settings) -> Iterator[Finding]:
    """Look at who works, and at what waits."""
    engine = make_engine(settings, pool_size=1)
    try:
        found = live_workers(engine, live_s=settings.live_s)
        with read(engine, EVERY_TENANT) as connection:
            waiting = connection.execute(
                text("SELECT queue, queued_steps, oldest_due_s FROM longhand_backlog")
            ).all()
    finally:
        engine.dispose()
    yield from _roles(found)
    for worker in found:
        for sentence in worker.failing:
            yield bad(WORKERS, f"{worker.id}: {sentence}")
    for row in waiting:
        if row.oldest_due_s > 600:
            yield warning(
                WORKERS,
                f"{row.queued_steps} steps wait in {row.queue}, the oldest for "
                f"{row.oldest_due_s / 60:.0f} minutes",
            )


def _roles(found: list[WorkerView]) -> Iterator[Finding]:
    for role, without in (
        ("cpu", "no job is prepared"),
        ("model", "nothing is transcribed"),
        ("deliver", "no webhook is sent"),
        ("beat", "what a dead worker held is not claimed again"),
    ):
        alike = [worker for worker in found if worker.role == role]
        if not alike:
            yield (warning if role == "deliver" else bad)(
                WORKERS, f"there is no {role} worker: {without}"
            )
            continue
        models = sorted({worker.model for worker in alike if worker.model})
        of = f", for {', '.join(models)}" if models else ""
        yield good(WORKERS, f"{len(alike)} {role}{of}")
    versions = sorted({worker.version for worker in found})
    if len(versions) > 1:
        yield warning(WORKERS, f"they are of different versions: {', '.join(versions)}")
