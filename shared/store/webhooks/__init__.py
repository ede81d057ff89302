"""Webhooks: who is told of jobs' ends, what was sent to whom, and what an attempt leaves behind."""
