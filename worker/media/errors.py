"""Errors of decoders."""


class DecoderBug(Exception):
    """An unexpected error in a decoder; ``name`` has its class and its place there."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
