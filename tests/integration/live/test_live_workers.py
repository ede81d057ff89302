"""What an API process knows of the workers that take live requests."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest
import redis.asyncio

from api.live.workers import Workers
from harness.servers.redis_server import RedisServer
from shared.queue.live import keys
from shared.queue.live.wire import Beat, encode_beat
from shared.speech.live.requests import LiveKind

T = TypeVar("T")

ONE = Beat("one", "oracle", in_hand=["r1", "r2"], suspect="r2", capacity=4, busy_ms=80.0)
TWO = Beat("two", "oracle", capacity=4, busy_ms=30.0, partial_ms=100.0)
OTHER = Beat("other", "starter", capacity=1)
MEANS_MS = {LiveKind.FINAL: 20.0, LiveKind.PARTIAL: 10.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    started = RedisServer(tmp_path_factory.mktemp("redis"))
    yield started
    started.kill()


@pytest.fixture
def empty(server: RedisServer) -> RedisServer:
    server.client.flushdb()
    return server


def tell(server: RedisServer, *beats: Beat, left_ms: int = 60_000) -> None:
    """Have workers send beats, which count as fresh until a minute before they run out."""
    for beat in beats:
        server.client.sadd(keys.WORKERS, beat.worker)
        server.client.set(keys.beat(beat.worker), encode_beat(beat), px=left_ms)


def with_workers(
    server: RedisServer, use: Callable[[Workers], Awaitable[T]], clock: Callable[[], float]
) -> T:
    async def run() -> T:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            return await use(Workers(client, clock))

    return asyncio.run(run())


def still() -> float:
    return 100.0


def test_the_wait_is_told_by_what_is_queued_and_how_long_workers_take(empty: RedisServer) -> None:
    async def use(workers: Workers) -> None:
        await workers.look()
        load = workers.load("oracle", MEANS_MS)
        assert (load.workers, load.depth) == (2, 10)
        assert (load.partial_ms, load.final_ms) == (10.0, 20.0)
        # The first to be free, two calls of eight for those that wait, and one for the next.
        assert load.wait_ms == 30.0 + 2 * 100.0 + 100.0
        assert workers.load("starter", MEANS_MS).workers == 1
        assert workers.load("nobody", MEANS_MS).workers == 0

    tell(empty, ONE, TWO, OTHER)
    for kind, n in ((LiveKind.FINAL, 3), (LiveKind.PARTIAL, 7)):
        empty.client.rpush(keys.tickets("oracle", kind), *range(n))
    with_workers(empty, use, still)


def test_a_worker_that_stops_is_not_counted_and_one_that_is_silent_is(empty: RedisServer) -> None:
    async def use(workers: Workers) -> None:
        await workers.look()
        assert workers.load("oracle", MEANS_MS).workers == 1
        assert workers.silent("r1") == [ONE]
        assert workers.silent("r3") == []

    tell(empty, replace(TWO, stopping=True))
    tell(empty, ONE, left_ms=int(1000 * (keys.BEAT_TTL_S - keys.SILENT_S)) - 100)
    with_workers(empty, use, still)


def test_times_of_workers_that_have_unloaded_their_model_do_not_count(empty: RedisServer) -> None:
    slow = replace(TWO, busy_ms=5_000.0, partial_ms=9_000.0, loaded=False)

    async def use(workers: Workers) -> None:
        await workers.look()
        load = workers.load("oracle", MEANS_MS)
        assert (load.workers, load.loaded) == (2, 1)
        assert load.wait_ms == 30.0 + 100.0
        tell(empty, replace(TWO, loaded=False))
        await workers.look()
        load = workers.load("oracle", MEANS_MS)
        assert (load.workers, load.loaded, load.wait_ms, load.partial_ms) == (2, 0, 0.0, 0.0)
        assert workers.is_served("oracle")

    tell(empty, TWO, replace(slow, worker="three"))
    with_workers(empty, use, still)


def test_a_worker_whose_beat_ran_out_is_told_once_with_what_it_had_in_hand(
    empty: RedisServer,
) -> None:
    async def use(workers: Workers) -> None:
        assert await workers.look() == []
        empty.client.delete(keys.beat("one"))
        assert await workers.look() == [ONE]
        assert await workers.look() == []
        assert workers.load("oracle", MEANS_MS).workers == 1

    tell(empty, ONE, TWO)
    with_workers(empty, use, still)
    assert empty.client.smembers(keys.WORKERS) == {b"two"}


def test_nobody_has_died_when_redis_has_lost_everything(empty: RedisServer) -> None:
    async def use(workers: Workers) -> None:
        await workers.look()
        empty.client.flushdb()
        workers.forget()
        assert await workers.look() == []

    tell(empty, ONE)
    with_workers(empty, use, still)


@pytest.mark.usefixtures("quick_answers")
def test_without_a_look_for_a_while_nobody_is_known_to_be_there(empty: RedisServer) -> None:
    now = [100.0]

    async def use(workers: Workers) -> None:
        await workers.look()
        now[0] += 1.9
        assert workers.load("oracle", MEANS_MS).workers == 1
        now[0] += 0.2
        assert workers.load("oracle", MEANS_MS).workers == 0

    tell(empty, ONE)
    with_workers(empty, use, lambda: now[0])


def test_a_beat_of_another_version_hides_no_other_worker(empty: RedisServer) -> None:
    async def use(workers: Workers) -> None:
        await workers.look()
        assert workers.load("oracle", MEANS_MS).workers == 1

    tell(empty, TWO)
    empty.client.sadd(keys.WORKERS, "odd")
    empty.client.set(keys.beat("odd"), b"[]")
    with_workers(empty, use, still)
