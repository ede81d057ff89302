"""From chunks of all running jobs to batches for one engine."""
