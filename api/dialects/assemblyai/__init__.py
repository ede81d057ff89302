"""AssemblyAI's API for recordings: ``/v2``."""
