"""Whisper, through CTranslate2 or torch."""
