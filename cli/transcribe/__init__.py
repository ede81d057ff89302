"""``longhand transcribe``: from the files named to their transcripts, through a platform."""
