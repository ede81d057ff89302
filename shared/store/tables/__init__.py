"""The tables, by aggregate; ``metadata`` knows all."""

from shared.store.tables import accounts, jobs, objects, steps, transcripts, webhooks, workers
from shared.store.tables.schema import metadata

__all__ = ["accounts", "jobs", "metadata", "objects", "steps", "transcripts", "webhooks", "workers"]
