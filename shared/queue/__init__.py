"""The queue: the broker, and the messages that tell workers of work."""
