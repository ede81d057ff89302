"""The attacks on a running platform, one function each, and a run under them.

The main thread does each attack and notes a ``Fault``. An attack on a worker waits for a moment at
which the worker holds a step.
"""

import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import httpx
import psutil
from kombu.exceptions import OperationalError
from sqlalchemy import text

from harness.faults.fault_stack import FaultStack, OpenFault, Service, now
from harness.faults.submitters import Crowd, Interruption, Work
from shared.infra.database import begin
from shared.infra.errors import BrokerUnavailable, DatabaseUnavailable
from shared.queue.broker import make_broker, send_wakeups
from shared.store.queues import CPU_QUEUE, DELIVER_QUEUE, LARGE_QUEUE, model_queue

Attack = Callable[[FaultStack, Crowd, random.Random], None]

_CATCH_S = 3.0
"""How long to wait for a worker to hold a step before it is hit anyway."""
_RECONNECT_S = 2.0
"""After a server is back, until everybody has noticed."""
_SUPERFLUOUS = 30
_QUEUES = (CPU_QUEUE, LARGE_QUEUE, DELIVER_QUEUE, model_queue("oracle"))
_UPLOADS_TRIED = 5


def kill_api(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """``kill -9`` of the API, with whatever it is answering."""
    _kill(stack, stack.services["api"])


def kill_api_in_mid_upload(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """``kill -9`` of the API while half a file is there; its client sends it again.

    A connection that the API has not accepted yet outlives it in the listener's queue, and its
    client notices nothing. Another file is tried then.
    """
    assert any(_cut_in_half(stack, crowd, rng) for _ in range(_UPLOADS_TRIED))


def _cut_in_half(stack: FaultStack, crowd: Crowd, rng: random.Random) -> bool:
    # Large enough not to be read before it is sent whole.
    work = Work(tuple(range(40_000 + rng.randrange(1000), 41_300)))
    interruption = Interruption()
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        stack.wait(lambda: stack.services["api"].open_fault is None)
        upload = threading.Thread(
            target=crowd.submit, args=(client, work), kwargs={"interruption": interruption}
        )
        upload.start()
        stack.wait(interruption.half_sent.is_set)
        _kill(stack, stack.services["api"], kind="kill api in mid-upload")
        interruption.happened.set()
        stack.wait(lambda: not upload.is_alive())
        return interruption.refused


def kill_beat(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """``kill -9`` of the process that sweeps."""
    _kill(stack, stack.services["beat"])


def kill_deliver(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """``kill -9`` of the worker that tells receivers, with deliveries in hand."""
    service = stack.services["deliver"]
    _catch(stack, service, service.family)
    _kill(stack, service)


def kill_model(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """``kill -9`` of a model worker with steps in hand."""
    service = _some(stack, rng, "model")
    _catch(stack, service, service.family)
    _kill(stack, service)


def kill_cpu_parent(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """``kill -9`` of a CPU worker's main process; its children are left to themselves."""
    service = _some(stack, rng, "cpu")
    family = _catch(stack, service, service.family)
    _kill(stack, service)
    _signal(family[1:], signal.SIGCONT)


def kill_cpu_child(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """``kill -9`` of a CPU worker's child with a file in hand."""
    service = _some(stack, rng, "cpu")
    children = _catch(stack, service, lambda: service.family()[1:])
    victims = frozenset(child.pid for child in children)
    fault = OpenFault("kill cpu child", now(), victims, kills=True, noticed=True)
    _signal(children, signal.SIGKILL)
    leader = service.pid
    stack.until(
        fault, lambda: service.pid != leader or bool(service.pids() - victims - {service.pid})
    )


def stop_model(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """Stop a model worker in the orderly way, as an upgrade does."""
    service = _some(stack, rng, "model")
    service.open_fault = OpenFault("orderly stop", now(), service.pids())
    service.killed = True
    service.child.send(signal.SIGTERM)


def pause_model(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """SIGSTOP a model worker with steps in hand until its leases are gone; then SIGCONT."""
    _pause(stack, _some(stack, rng, "model"))


def pause_cpu(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """SIGSTOP a CPU worker and its children until their leases are gone; then SIGCONT."""
    _pause(stack, _some(stack, rng, "cpu"))


def kill_redis(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """``kill -9`` of Redis, with all wake-ups."""
    fault = OpenFault("kill redis", now())
    stack.restart_redis(rng.uniform(0.5, 2))
    _until_it_is_noticed(stack, fault)


def flush_redis(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """FLUSHALL."""
    fault = OpenFault("flush redis", now())
    with make_broker(stack.settings).connection_for_write() as connection:
        connection.default_channel.client.flushall()
    _until_it_is_noticed(stack, fault)


def freeze_redis(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """SIGSTOP Redis for a while: connections stand, and nobody answers."""
    fault = OpenFault("freeze redis", now())
    assert stack.redis.process is not None
    stack.redis.send(signal.SIGSTOP)
    stack.pause(rng.uniform(1, 4))
    stack.redis.send(signal.SIGCONT)
    _until_it_is_noticed(stack, fault)


def freeze_connections(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """Redis lives, but its present connections are dead, and nobody is told."""
    fault = OpenFault("freeze redis connections", now())
    stack.redis_proxy.freeze()
    _until_it_is_noticed(stack, fault, lambda: stack.redis_proxy.n_waiting_in_vain() == 0)


def restart_postgres(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """Stop Postgres as an upgrade does, and start it."""
    _restart_postgres(stack, "restart postgres", signal.SIGINT)


def crash_postgres(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """Stop Postgres as a crash does, and start it."""
    _restart_postgres(stack, "crash postgres", signal.SIGQUIT)


def s3_answers_500(seconds: float) -> Attack:
    """Make the object store answer every request with 500 for so long."""

    def attack(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
        fault = OpenFault("s3 answers 500", now(), None)
        stack.s3_proxy.fail(on=True)
        stack.pause(seconds)
        stack.s3_proxy.fail(on=False)
        stack.faults.append(fault.over())

    attack.__doc__ = s3_answers_500.__doc__
    attack.__name__ = "s3_answers_500"
    return attack


def mess_up_messages(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
    """Lose half of the wake-ups that wait in each queue, and send far too many to any queue."""
    fault = OpenFault("lost and superfluous wake-ups", now())
    # Redis may not answer yet after the attack before, on a busy machine.
    with suppress(BrokerUnavailable, OperationalError, OSError):
        broker = make_broker(stack.settings)
        with broker.connection_for_write() as connection:
            redis = connection.default_channel.client
            for queue in _QUEUES:
                if n_waiting := redis.llen(queue):
                    redis.rpop(queue, math.ceil(n_waiting / 2))
        for queue in rng.choices(_QUEUES, k=_SUPERFLUOUS):
            send_wakeups(broker, queue, 1)
    stack.faults.append(fault.over())


WORKER_ATTACKS: tuple[Attack, ...] = (
    *(kill_model, kill_cpu_child, kill_cpu_parent, kill_beat, kill_deliver),
    *(pause_model, pause_cpu, stop_model),
)
SERVER_ATTACKS: tuple[Attack, ...] = (
    *(kill_redis, flush_redis, freeze_redis, freeze_connections),
    *(restart_postgres, crash_postgres, mess_up_messages),
    *(kill_api, kill_api_in_mid_upload),
)


def run(
    stack: FaultStack,
    crowd: Crowd,
    attacks: Iterable[Attack],
    rng: random.Random,
    *,
    files_per_attack: int,
    most_active: int,
    breath_s: float,
    settle_s: float,
    deaf: frozenset[str],
) -> None:
    """Submit all files under attack, then wait until everything has come to rest.

    Args:
        stack: the platform, ready.
        crowd: its clients.
        attacks: in their order; no more is submitted after the last.
        rng: what is left to chance.
        files_per_attack: how many files are let in before each attack, at most.
        most_active: no more are let in than make so many jobs under way: attacks go on as long as
            there is work, rather than as long as it takes to submit it.
        breath_s: between two attacks.
        settle_s: how long the platform may take, after the last attack, to end all jobs.
        deaf: URLs of receivers that nobody needs to wait for.
    """
    crowd.start(4)
    try:
        for attack in attacks:
            crowd.allow(min(files_per_attack, max(0, most_active - count_active(stack))))
            stack.pause(rng.uniform(0, breath_s))
            attack(stack, crowd, rng)
            if crowd.is_done:
                break
        crowd.close()
        stack.wait(lambda: crowd.is_done, within_s=settle_s)
        deadline = time.monotonic() + settle_s
        while time.monotonic() < deadline and _is_at_work(stack, deaf):
            _bring_deliveries_forward(stack, deaf)
            stack.pause(0.25)
    finally:
        crowd.give_up()


def share(n_files: int, n_attacks: int) -> int:
    """Return how many files go with each attack, so that the last one finds some, too."""
    return math.ceil(n_files / n_attacks)


def count_active(stack: FaultStack) -> int:
    """Return how many jobs have not ended."""
    with begin(stack.database) as connection:
        return connection.execute(
            text("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")
        ).scalar_one()


def _bring_deliveries_forward(stack: FaultStack, deaf: frozenset[str]) -> None:
    """Make deliveries due now that lost one attempt with their worker and one to their receiver.

    The third attempt would come five minutes after the second. A delivery that its receiver has
    refused twice is left to wait: the checker finds it.
    """
    with begin(stack.database) as connection:
        connection.execute(
            text("""
                UPDATE steps SET run_at = now() FROM webhook_endpoints
                WHERE steps.lane = webhook_endpoints.id::text AND url <> ALL (:deaf)
                    AND steps.state = 'queued' AND steps.run_at > now() + interval '1 minute'
                    AND steps.attempt > 1 AND 1 = (
                        SELECT count(*) FROM webhook_attempts
                        WHERE delivery_id = (steps.input ->> 'delivery_id')::uuid
                    )
            """),
            {"deaf": list(deaf)},
        )


def _is_at_work(stack: FaultStack, deaf: frozenset[str]) -> bool:
    """Whether a fault is open, a job has not ended, or an end is to be told still."""
    with begin(stack.database) as connection:
        left = connection.execute(
            text("""
                SELECT EXISTS (SELECT FROM jobs WHERE state IN ('queued', 'running'))
                    OR EXISTS (
                        SELECT FROM webhook_deliveries
                        JOIN webhook_endpoints ON webhook_endpoints.id = endpoint_id
                        WHERE state = 'pending' AND url <> ALL (:deaf)
                    )
            """),
            {"deaf": list(deaf)},
        )
        return bool(left.scalar_one()) or not stack.is_whole


def _some(stack: FaultStack, rng: random.Random, role: str) -> Service:
    """Choose a worker of this role, once all of them are up: one is to go on."""
    services = [each for name, each in stack.services.items() if name.startswith(role)]
    stack.wait(lambda: not any(each.open_fault or each.paused for each in services))
    return rng.choice(services)


def _kill(stack: FaultStack, service: Service, kind: str | None = None) -> None:
    stack.wait(lambda: service.open_fault is None)
    pids = service.pids()
    service.open_fault = OpenFault(kind or f"kill {service.role}", now(), pids, kills=True)
    service.killed = True
    service.child.send(signal.SIGKILL)


def _catch(
    stack: FaultStack, service: Service, processes: Callable[[], list[psutil.Process]]
) -> list[psutil.Process]:
    """Stop processes of a service at a moment when they hold steps, and return them."""
    deadline = time.monotonic() + _CATCH_S
    while True:
        stack.wait(lambda: service.open_fault is None)
        found = processes()
        _signal(found, signal.SIGSTOP)
        with suppress(DatabaseUnavailable):
            if stack.held_by(frozenset(each.pid for each in found)):
                return found
        if time.monotonic() > deadline and found:
            return found
        _signal(found, signal.SIGCONT)
        stack.pause(0.02)


def _signal(processes: Iterable[psutil.Process], signum: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signum)


def _pause(stack: FaultStack, service: Service) -> None:
    family = _catch(stack, service, service.family)
    pids = frozenset(process.pid for process in family)
    fault = OpenFault(f"pause {service.role}", now(), pids, kills=True)
    service.paused = True
    wakes_at = time.monotonic() + stack.settings.lease_s + 3 * stack.settings.sweep_s

    def is_awake() -> bool:
        if time.monotonic() < wakes_at:
            return False
        _signal(family, signal.SIGCONT)
        service.paused = False
        return True

    stack.until(fault, is_awake)


def _restart_postgres(stack: FaultStack, kind: str, signum: signal.Signals) -> None:
    fault = OpenFault(kind, now(), None, kills=True)
    stack.restart_postgres(signum)
    stack.pause(_RECONNECT_S)
    stack.faults.append(fault.over())


def _until_it_is_noticed(
    stack: FaultStack, fault: OpenFault, also: Callable[[], bool] = lambda: True
) -> None:
    """Workers listen again, and the sweep wakes them for what is due."""
    noticed_at = time.monotonic() + _RECONNECT_S + stack.settings.sweep_s
    stack.until(fault, lambda: time.monotonic() > noticed_at and also())
