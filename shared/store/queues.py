"""The queues' names."""

CPU_QUEUE = "cpu"
"""``prepare`` and ``finish`` steps, for CPU workers."""
LARGE_QUEUE = "cpu.large"
"""``prepare`` steps of large files, for CPU workers, which leave a slot to other steps."""
LARGE_BYTES = 16 * 1024**2
"""Least size of a large file. 16 MiB are half an hour of speech at 64 kbit/s, whose ``prepare``
step takes some three seconds."""
FETCH_QUEUE = "cpu.fetch"
"""``fetch`` steps, for CPU workers. They mostly wait for other servers, so a slot is left to other
steps."""
LISTEN_QUEUE = "cpu.listen"
"""``listen`` steps, for CPU workers that have nothing else to do."""
DELIVER_QUEUE = "deliver"
DELIVERY_SLOTS = 1024
"""Attempts that a delivery worker makes at once: threads, which wait for their receivers."""

_MODEL_PREFIX = "model."


def model_queue(model: str) -> str:
    """Return the queue of the workers of ``model``."""
    return f"{_MODEL_PREFIX}{model}"


def queue_model(queue: str) -> str | None:
    """Return the model of a queue; None if it is not a model's."""
    return queue.removeprefix(_MODEL_PREFIX) if queue.startswith(_MODEL_PREFIX) else None
