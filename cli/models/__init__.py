"""The models that can be used on this machine, before a platform runs on it."""
