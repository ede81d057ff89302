"""``python -m bench [startup] [preparation] [memory]``: run some or all measurements.

Ratios are taken side by side in one run; absolute numbers are this machine's.
"""

import sys

from bench import memory, preparation, startup

MEASUREMENTS = {"startup": startup.run, "preparation": preparation.run, "memory": memory.run}


def main(names: list[str]) -> None:
    """Run the named measurements, or all."""
    unknown = set(names) - set(MEASUREMENTS)
    if unknown:
        sys.exit(f"bench: there is no {' or '.join(unknown)}, only {' '.join(MEASUREMENTS)}")
    for name in names or MEASUREMENTS:
        print(f"== {name}", flush=True)
        MEASUREMENTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
