"""The queues' names: the one place that knows them."""

PREPARE_QUEUE = "prepare"
PREPARE_LARGE_QUEUE = "prepare.large"
LARGE_BYTES = 16 * 1024**2
"""Smaller files take seconds: of speech at 64 kbit/s they have half an hour, which is decoded and
searched for speech in some three."""
FINISH_QUEUE = "finish"
DELIVER_QUEUE = "deliver"


_MODEL_PREFIX = "model."


def model_queue(model: str) -> str:
    """Return the name of the queue that the workers of ``model`` consume."""
    return f"{_MODEL_PREFIX}{model}"


def queue_model(queue: str) -> str | None:
    """Return the model whose workers consume the queue; None where it is no model's."""
    return queue.removeprefix(_MODEL_PREFIX) if queue.startswith(_MODEL_PREFIX) else None
