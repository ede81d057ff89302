"""The queues' names: the one place that knows them."""

CPU_QUEUE = "cpu"
"""``prepare`` and ``finish`` steps, for CPU workers."""
LARGE_QUEUE = "cpu.large"
"""``prepare`` steps of large files. CPU workers take these too, but leave a slot to the others."""
LARGE_BYTES = 16 * 1024**2
"""The size from which a file is large. Smaller ones are prepared in seconds: 16 MiB are half an
hour of speech at 64 kbit/s, which is decoded and searched for speech in some three."""
DELIVER_QUEUE = "deliver"

_MODEL_PREFIX = "model."


def model_queue(model: str) -> str:
    """Return the name of the queue that the workers of ``model`` consume."""
    return f"{_MODEL_PREFIX}{model}"


def queue_model(queue: str) -> str | None:
    """Return the model whose workers consume the queue; None where it is no model's."""
    return queue.removeprefix(_MODEL_PREFIX) if queue.startswith(_MODEL_PREFIX) else None
