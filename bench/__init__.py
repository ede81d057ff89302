"""Speed and memory, measured and printed: ``make bench``, or ``python -m bench NAME``."""
