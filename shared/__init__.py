"""What the API, the workers and the command line have in common."""

import os

__version__ = "0.1.0"

# NumPy's OpenBLAS reads this when it is loaded. With more threads, each matrix product, however
# small, is followed by a time in which the others spin on processors that others need.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
