"""Backups of a platform: its rows and its objects in a folder, and back."""
