"""Every name of the five services that Longhand takes the place of, and what becomes of it here.

``docs/founding.md`` is written from these lists, and a test checks what each entry claims.
"""

from docs.founding_names.hausa import HAUSA
from docs.founding_names.hindi import HINDI
from docs.founding_names.model_loader import MODEL_LOADER
from docs.founding_names.streaming import STREAMING
from docs.founding_names.websocket import WEBSOCKET

SERVICES = (MODEL_LOADER, HAUSA, HINDI, STREAMING, WEBSOCKET)
