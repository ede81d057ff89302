"""The transcript of a job: stitched, divided, corrected, searched."""
