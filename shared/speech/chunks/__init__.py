"""Chunks and what engines heard in them: packed, compared where they overlap, heard again."""
