"""Being told to stop, in a process of its own: what is begun there cannot be taken back."""

import subprocess
import sys

STOPPED_TWICE = """
from celery.signals import worker_shutting_down
from worker import tasks
from worker.process import drain

with worker_shutting_down.lock:  # as the handler of the first signal has it for a moment
    worker_shutting_down.send(sender="a worker")
assert drain.has_begun()
"""


def test_a_second_stop_signal_does_not_wait_for_the_first() -> None:
    subprocess.run([sys.executable, "-c", STOPPED_TWICE], check=True, timeout=60)
