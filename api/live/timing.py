"""Where the time of an answer went."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """The parts of the time from a client's message to the answer that it led to."""

    preprocess_ms: float
    """From receiving the message to asking."""
    queue_wait_ms: float
    """From asking to the engine's call."""
    inference_ms: float
    postprocess_ms: float
    """From the call's end to having the answer here."""

    @property
    def server_total_ms(self) -> float:
        """All of it."""
        return self.preprocess_ms + self.queue_wait_ms + self.inference_ms + self.postprocess_ms
