"""What a claim costs with ten waiting steps and with a hundred thousand."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FEW, MANY = 10, 100_000
FEW_TENANTS, MANY_TENANTS = 10, 500


@dataclass(frozen=True, slots=True)
class ClaimCost:
    """Medians over claims while so many steps wait."""

    execution_ms: float
    """Of the statements, as Postgres says."""
    buffers: float
    """Pages of 8 KiB that they touch."""
    call_ms: float
    """Of the whole call: round trips and commit included."""


def measure(tree: Path) -> tuple[ClaimCost, ClaimCost] | None:
    """Return the cost with few and with many steps; None where the tree does not claim so."""
    few, many = _run(tree, FEW, FEW_TENANTS), _run(tree, MANY, MANY_TENANTS)
    return None if few is None or many is None else (few, many)


def _run(tree: Path, n_steps: int, n_tenants: int) -> ClaimCost | None:
    script = str(Path(__file__).with_name("claim_script.py"))
    done = subprocess.run(
        [sys.executable, "-P", script, str(n_steps), str(n_tenants)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        check=True,
    )
    answer = json.loads(done.stdout)
    return None if answer is None else ClaimCost(**answer)
