"""Speech to text by a Longhand server, for Pipecat."""

from pipecat_longhand.stt import LonghandSTTService, LonghandSTTSettings

__all__ = ["LonghandSTTService", "LonghandSTTSettings"]
