"""Speed, fidelity and memory, measured: ``make bench``, or ``python -m bench NAME``."""
