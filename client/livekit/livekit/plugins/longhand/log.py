"""The logger of this package, below that of LiveKit's plugins."""

import logging

logger = logging.getLogger("livekit.plugins.longhand")
