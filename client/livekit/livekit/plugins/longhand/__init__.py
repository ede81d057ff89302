"""Speech to text by a Longhand server, for LiveKit Agents."""

from livekit.agents import Plugin

from .log import logger
from .stream import SpeechStream
from .stt import STT, WhisperSTT
from .version import __version__

__all__ = ["STT", "SpeechStream", "WhisperSTT", "__version__"]


class LonghandPlugin(Plugin):
    """What LiveKit lists of this package."""

    def __init__(self) -> None:
        super().__init__(__name__, __version__, __package__ or __name__, logger)


Plugin.register_plugin(LonghandPlugin())
