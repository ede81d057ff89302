"""A pool of threads tells the event loop that one of them is free."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from kombu.asynchronous.hub import Hub

from worker.roles.start import tell_of_ends


def test_the_loop_goes_round_when_a_task_has_ended_and_not_before() -> None:
    hub, told, may_end = Hub(), Event(), Event()
    hub.call_soon = lambda *_: told.set()  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as executor:
        tell_of_ends(executor, hub)
        future = executor.submit(may_end.wait)
        assert not told.is_set()
        may_end.set()
        assert future.result()
        assert told.wait(30)
