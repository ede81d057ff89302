"""The audio itself is at fault."""

from shared.infra.errors.base import PermanentError


class MediaError(PermanentError):
    """The submitted audio cannot be transcribed."""


class UnreadableMedia(MediaError):
    """Not audio, a format we do not open, or damaged beyond decoding."""


class TruncatedMedia(MediaError):
    """The file ends before its own header says it does."""


class NoAudioTrack(MediaError):
    """A readable container that holds no audio stream."""


class AudioTooLong(MediaError):
    """More decoded audio than ``max_duration_s`` allows."""


class AudioOutOfBounds(MediaError):
    """A sample rate or a channel count outside the supported range."""
