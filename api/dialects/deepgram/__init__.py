"""Deepgram's API for recordings: ``POST /v1/listen``."""
