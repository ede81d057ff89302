"""A transcript as a file: subtitles, documents, tables."""
