"""What the API, the workers and the command line have in common."""

__version__ = "0.1.0"
