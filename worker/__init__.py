"""From stored audio to a stored transcript: the processes that do the work."""
