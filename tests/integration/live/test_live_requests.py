"""Live requests to real workers, by way of a real Redis."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from api.live import transcriber
from api.live import workers as api_workers
from api.live.hearer import SUPERSEDED
from harness.live.sender import LiveSender, final, partial, texts, words_of
from harness.programs.workers import Fleet, Worker, fleet, wait_until
from harness.servers.redis_server import RedisServer
from shared.infra.settings import Settings
from shared.queue.live import keys
from shared.speech.live.requests import LiveAnswer, LiveKind

LIMIT_S = 60.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def own(settings: Settings, redis: RedisServer) -> Settings:
    return settings.model_copy(update={"broker_url": SecretStr(redis.url)})


@pytest.fixture
def workers(own: Settings, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(own, tmp_path) as started:
        yield started


@pytest.fixture
def sender(own: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveSender]:
    """A sender that gives nothing up early: workers may take long to start, and it to look."""
    for name in ("_PARTIAL_LIMIT_S", "_FINAL_LIMIT_S"):
        monkeypatch.setattr(transcriber, name, 600.0)
    monkeypatch.setattr(keys, "PARTIAL_TTL_S", 600.0)
    monkeypatch.setattr(api_workers, "_BLIND_S", 600.0)
    sending = LiveSender(own)
    yield sending
    sending.close()


def start(workers: Fleet, **faults: str) -> Worker:
    return workers.start("model", "--model", "oracle", **faults)


class Gate:
    """A file that holds a worker's engine calls while it exists."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def close(self) -> None:
        """Hold calls from now on: a worker's first call is part of its start."""
        self.path.touch()

    @property
    def fault(self) -> dict[str, str]:
        return {"FAULTY_GATE": str(self.path)}

    def await_call(self) -> None:
        wait_until(lambda: Path(f"{self.path}.reached").exists())

    def open(self) -> None:
        self.path.unlink()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def heard(answer: LiveAnswer, *words: int) -> bool:
    return words_of(answer) == texts(*words)


def test_partials_and_finals_are_answered_with_words_and_timings(
    workers: Fleet, sender: LiveSender
) -> None:
    start(workers)
    sender.await_workers(1)

    early, late = sender.hear(partial(1, 2, segment="s"), final(1, 2, 3, segment="s"))

    assert heard(early.result(LIMIT_S), 1, 2)
    told = late.result(LIMIT_S)
    assert heard(told, 1, 2, 3)
    assert told.hypothesis is not None
    assert [word.start for word in told.hypothesis.words] == pytest.approx(
        [1600, 7040, 12480], abs=40
    )
    assert told.worker is not None
    assert told.worker.startswith("model-oracle@")
    assert (told.error, told.batch_size > 0, told.queue_ms > 0) == (None, True, True)
    wait_until(lambda: sender.load().final_ms > 0)


def test_the_newest_audio_is_heard_and_an_older_request_is_answered_as_superseded(
    redis: RedisServer, workers: Fleet, sender: LiveSender
) -> None:
    (older,) = sender.hear(partial(1, segment="s"))
    wait_until(lambda: redis.client.llen(keys.tickets("oracle", LiveKind.PARTIAL)))
    (newer,) = sender.hear(final(1, 2, segment="s"))
    wait_until(lambda: redis.client.llen(keys.tickets("oracle", LiveKind.FINAL)))
    (newest,) = sender.hear(final(1, 2, 3, segment="s"))
    (unheard,) = sender.hear(partial(1, 2, segment="s"))

    assert older.result(LIMIT_S).error == SUPERSEDED
    assert newer.result(LIMIT_S).error == SUPERSEDED
    # One ticket for each segment and kind, however many requests there were.
    wait_until(lambda: redis.client.exists(*redis.client.keys("live:slot:*")) == 2)
    lists = [keys.tickets("oracle", kind) for kind in (LiveKind.FINAL, LiveKind.PARTIAL)]
    assert [redis.client.llen(key) for key in lists] == [1, 1]

    start(workers)
    assert heard(newest.result(LIMIT_S), 1, 2, 3)
    unheard.result(LIMIT_S)


def test_a_request_whose_ticket_is_lost_is_heard(
    redis: RedisServer, workers: Fleet, sender: LiveSender
) -> None:
    (asked,) = sender.hear(final(4))
    key = keys.tickets("oracle", LiveKind.FINAL)
    wait_until(lambda: redis.client.llen(key))
    redis.client.delete(key)

    start(workers)

    assert heard(asked.result(LIMIT_S), 4)


def test_an_idle_worker_takes_what_a_busy_one_cannot_begin(
    workers: Fleet, sender: LiveSender, gate: Gate
) -> None:
    start(workers, **gate.fault)
    sender.await_workers(1)
    gate.close()
    held = sender.hear(final(1))
    gate.await_call()
    start(workers)
    sender.await_workers(2)

    free = sender.hear(*(partial(n) for n in range(2, 8)))

    taken_by = {future.result(LIMIT_S).worker for future in free}
    assert len(taken_by) == 1
    # The busy worker's own final is overdue then, and the idle one hears that as well.
    assert held[0].result(LIMIT_S).worker in taken_by
    gate.open()
    assert heard(sender.hear(final(9))[0].result(LIMIT_S), 9)


def test_every_final_of_a_killed_worker_is_answered(
    workers: Fleet, sender: LiveSender, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcriber, "_PARTIAL_LIMIT_S", 1.0)
    doomed = start(workers, **gate.fault)
    sender.await_workers(1)
    gate.close()
    finals = sender.hear(*(final(n) for n in range(8)))
    partials = sender.hear(*(partial(n) for n in range(8)))
    gate.await_call()
    start(workers)
    sender.await_workers(2)

    doomed.kill()

    assert all(heard(future.result(LIMIT_S), n) for n, future in enumerate(finals))
    for future in partials:
        answer = future.result(LIMIT_S)
        assert answer.error in (None, transcriber.NO_ANSWER)


def test_what_kills_workers_is_heard_alone_and_fails_after_two_deaths(
    workers: Fleet, sender: LiveSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than a worker may stand still; what one took and could not tell of is sent again then.
    monkeypatch.setattr(transcriber, "_LEAST_OVERDUE_S", 15.0)
    doomed = [start(workers, FAULTY_PACE_S="0.1") for _ in range(2)]
    sender.await_workers(2)

    poison, *innocent = sender.hear(final(0xDEAD), *(final(n) for n in range(3)))

    wait_until(lambda: all(worker.process.poll() is not None for worker in doomed))
    third = start(workers)
    assert poison.result(LIMIT_S).error == transcriber.POISONOUS
    assert third.process.poll() is None
    assert all(heard(future.result(LIMIT_S), n) for n, future in enumerate(innocent))


def test_finals_are_answered_once_redis_is_back_and_partials_are_given_up(
    redis: RedisServer, workers: Fleet, sender: LiveSender
) -> None:
    start(workers)
    sender.await_workers(1)
    redis.kill()

    waiting = sender.hear(final(1), final(2))
    lost = sender.hear(partial(3))[0].result(LIMIT_S)

    assert lost.error == "broker_unavailable"
    wait_until(lambda: sender.load().workers == 0)
    redis.start()
    assert [heard(future.result(LIMIT_S), n) for n, future in enumerate(waiting, 1)] == [True] * 2
    sender.await_workers(1)


def test_a_final_in_hand_is_answered_although_redis_lost_everything(
    redis: RedisServer, workers: Fleet, sender: LiveSender, gate: Gate
) -> None:
    start(workers, **gate.fault)
    sender.await_workers(1)
    gate.close()
    (asked,) = sender.hear(final(5))
    gate.await_call()

    redis.kill()
    redis.start()
    gate.open()

    assert heard(asked.result(LIMIT_S), 5)


def test_a_worker_that_is_told_to_stop_answers_what_it_has_and_takes_no_more(
    redis: RedisServer, workers: Fleet, sender: LiveSender, gate: Gate
) -> None:
    stopping = start(workers, **gate.fault)
    sender.await_workers(1)
    gate.close()
    (asked,) = sender.hear(final(5))
    gate.await_call()

    stopping.signal(signal.SIGTERM)
    sender.await_workers(0)
    (later,) = sender.hear(final(6))
    gate.open()

    assert heard(asked.result(LIMIT_S), 5)
    assert stopping.process.wait(LIMIT_S) == 0
    assert not redis.client.smembers(keys.WORKERS)
    assert not later.done()
    start(workers)
    assert heard(later.result(LIMIT_S), 6)


def test_a_cancelled_segment_is_not_heard(
    redis: RedisServer, workers: Fleet, sender: LiveSender
) -> None:
    asked = sender.hear(partial(1, segment="s"), final(1, segment="s"))
    wait_until(lambda: len(redis.client.keys("live:slot:*")) == 2)

    sender.cancel("s")

    assert [future.result(LIMIT_S).error for future in asked] == [SUPERSEDED] * 2
    assert not redis.client.keys("live:slot:*")
    start(workers)
    assert heard(sender.hear(final(2))[0].result(LIMIT_S), 2)


def test_segments_of_two_api_processes_do_not_meet_though_they_have_one_name(
    own: Settings, redis: RedisServer, workers: Fleet, sender: LiveSender
) -> None:
    other = LiveSender(own)
    try:
        asked = sender.hear(final(1, segment="s")) + other.hear(final(2, segment="s"))
        wait_until(lambda: len(redis.client.keys("live:slot:*")) == 2)
        start(workers)
        assert [words_of(future.result(LIMIT_S)) for future in asked] == [texts(1), texts(2)]
    finally:
        other.close()


def test_what_a_model_cannot_do_is_answered_with_the_reason(
    workers: Fleet, sender: LiveSender
) -> None:
    start(workers)
    sender.await_workers(1)

    asked = sender.hear(final(1, task="translate"), final(1, task="sing"))

    assert [future.result(LIMIT_S).error for future in asked] == ["unsupported_option"] * 2


def test_a_request_without_a_worker_says_so(
    sender: LiveSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcriber, "_PARTIAL_LIMIT_S", 0.1)
    assert sender.hear(partial(1))[0].result(LIMIT_S).error == "no_worker"


def test_load_counts_workers_and_the_requests_that_none_has_taken(
    workers: Fleet, sender: LiveSender, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcriber, "_LEAST_OVERDUE_S", 600.0)  # nothing is sent again
    assert (sender.load().workers, sender.load().depth) == (0, 0)
    start(workers, **gate.fault)
    sender.await_workers(1)
    gate.close()
    first = sender.hear(final(1))
    gate.await_call()

    waiting = sender.hear(*(final(n) for n in range(2, 5)))

    wait_until(lambda: sender.load().depth == 3)
    gate.open()
    for future in first + waiting:
        future.result(LIMIT_S)
    wait_until(lambda: sender.load().depth == 0)
    wait_until(lambda: sender.load().wait_ms > 0)
