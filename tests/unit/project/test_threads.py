"""Threads of libraries that nobody asked for."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

_PRODUCT = """
import os, shared, numpy
square = numpy.ones((400, 400), numpy.float32)
square @ square
print(len(os.listdir("/proc/self/task")))
"""


def test_a_product_of_matrices_takes_one_thread() -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")
    }
    done = subprocess.run(
        [sys.executable, "-c", _PRODUCT],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1"]
