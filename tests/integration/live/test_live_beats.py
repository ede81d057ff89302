"""What a worker that takes live requests tells others, and learns from them."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from pydantic import SecretStr

from harness.programs.workers import wait_until
from harness.servers.redis_server import RedisServer
from shared.infra.settings import Settings
from shared.queue.live import keys
from shared.queue.live.wire import Beat, encode_beat
from worker.batching.batcher import Batcher
from worker.live.beats import Beats
from worker.live.hands import Hands


class Told:
    """What a batcher is told."""

    def __init__(self) -> None:
        self.reserved: list[bool] = []
        self.spoken = threading.Event()

    is_loaded = True

    def live_capacity(self) -> int:
        return 1

    def busy_s(self) -> float:
        return 0.0

    def note_speech(self) -> None:
        self.spoken.set()

    def reserve(self, *, is_reserved: bool) -> None:
        self.reserved.append(is_reserved)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def join(redis: RedisServer, *beats: Beat) -> None:
    for beat in beats:
        redis.client.sadd(keys.WORKERS, beat.worker)
        redis.client.set(keys.beat(beat.worker), encode_beat(beat))


def test_as_many_workers_as_are_reserved_are_left_to_those_who_speak(
    settings: Settings, redis: RedisServer
) -> None:
    own = settings.model_copy(update={"broker_url": SecretStr(redis.url), "live_reserve": 2})
    redis.client.set(keys.speech("oracle"), "")
    join(redis, Beat("a", "starter"), Beat("b", "oracle"), Beat("c", "oracle", stopping=True))
    told = Told()
    with closing(Beats(own, "d", "oracle", cast("Batcher", told), Hands())):
        wait_until(lambda: told.reserved)  # of b, c and d: c stops
        assert set(told.reserved) == {True}
        join(redis, Beat("c", "oracle"))
        wait_until(lambda: not told.reserved[-1])  # b and c are reserved
        redis.client.delete(keys.beat("b"))
        wait_until(lambda: told.reserved[-1])


def test_without_a_reserve_every_worker_is_left_to_those_who_speak(
    settings: Settings, redis: RedisServer
) -> None:
    own = settings.model_copy(update={"broker_url": SecretStr(redis.url)})
    redis.client.set(keys.speech("oracle"), "")
    told = Told()
    with closing(Beats(own, "a", "oracle", cast("Batcher", told), Hands())):
        assert told.spoken.wait(60)
    assert told.reserved == []
