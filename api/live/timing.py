"""The parts of an answer's latency."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """The parts of the time from a client's message to the answer."""

    preprocess_ms: float
    """From receiving the message to sending the request."""
    queue_wait_ms: float
    """From sending the request to the engine's call."""
    inference_ms: float
    postprocess_ms: float
    """From the end of the engine's call to the answer."""

    @property
    def server_total_ms(self) -> float:
        """The sum."""
        return self.preprocess_ms + self.queue_wait_ms + self.inference_ms + self.postprocess_ms
