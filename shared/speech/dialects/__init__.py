"""Transcripts in the forms of other services' APIs, for answers and webhooks alike."""
