"""``python -m bench.gpu --out FOLDER [--dry]``: run all parts, each in a process of its own.

A part that fails, crashes or takes too long costs its own rows and no others. The dry run, on a
processor, has all parts in one process to save the imports, each still guarded.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from bench.gpu.report import Report

LIMIT_S = 465.0
"""For all parts together: of eight minutes, with some left to start and to end in."""
DRY_LIMIT_S = 540.0
PARTS: Mapping[str, float] = {
    "machine": 60,
    "words": 75,
    "large-v3": 130,
    "large-v3 otherwise": 90,
    "turbo": 80,
    "memory": 100,
    "feeding": 70,
    "w2v-bert": 60,
    "compiled": 240,
}
"""Time limits in seconds, imports included. Compiling takes longest, so it comes last."""


def main() -> None:
    """Run the parts, or, as a child of that, some of them."""
    parser = argparse.ArgumentParser(prog="bench.gpu")
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--dry", action="store_true", help="tiny models on a processor")
    parser.add_argument("--pack", type=Path, default=Path(".gpu"), help="what pack.sh has filled")
    parser.add_argument("--limit-s", type=float, help="seconds for all parts together")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        _run_parts(arguments)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="longhand-gpu-") as work:
        states = _orchestrate(arguments, Path(work))
    print((arguments.out / "gpu.md").read_text(encoding="utf-8"), flush=True)
    sys.exit(0 if set(states.values()) == {"done"} else 1)


def _orchestrate(arguments: argparse.Namespace, work: Path) -> dict[str, str]:
    """Run the parts in children; return how each ended."""
    begun = time.monotonic()
    limit_s = arguments.limit_s or (DRY_LIMIT_S if arguments.dry else LIMIT_S)
    report = Report(
        arguments.out,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=" ".join(["bench/gpu/run.sh", *sys.argv[1:]]),
        dry=arguments.dry,
    )
    groups = [arguments.only] if arguments.dry else [[name] for name in arguments.only]
    for group in groups:
        left_s = limit_s - (time.monotonic() - begun)
        if left_s < 1:
            for name in group:
                report.end(name, "not begun", 0, "no time was left")
            continue
        most_s = DRY_LIMIT_S if arguments.dry else PARTS[group[0]]
        _run_child(arguments, group, work, report, min(left_s, most_s))
    return report.states


def _run_child(
    arguments: argparse.Namespace, group: list[str], work: Path, report: Report, limit_s: float
) -> None:
    """Run parts in one child, and note what it says until it ends or its time is over."""
    command = [sys.executable, "-u", "-m", "bench.gpu", "--work", str(work)]
    command += ["--out", str(arguments.out), "--pack", str(arguments.pack)]
    command += [*(["--dry"] if arguments.dry else []), "--only", *group]
    begun = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    over = threading.Event()
    said: dict[str, float] = {}

    def end() -> None:
        over.set()
        child.kill()

    timer = threading.Timer(limit_s, end)
    timer.start()
    for line in child.stdout:
        event: dict[str, Any] = json.loads(line)
        part = event["part"]
        match event:
            case {"row": row}:
                report.add(part, row)
                _tell(f"{part}: {row.get('case', '')} {_brief(row)}")
            case {"state": "begun"}:
                said[part] = time.monotonic()
                report.begin(part)
                _tell(f"{part}: {time.monotonic() - begun:.0f} s after its process began")
            case {"state": state, "seconds": seconds, "error": error}:
                report.end(part, state, seconds, error)
                _tell(f"{part}: {state} in {seconds:.0f} s {error or ''}")
    code = child.wait()
    timer.cancel()
    for name in group:
        if report.states.get(name, "ended") == "ended":
            state = "out of time" if over.is_set() else "failed"
            error = f"its process ended with {code}"
            report.end(name, state, time.monotonic() - said.get(name, begun), error)
            _tell(f"{name}: {state}, {error}")


def _run_parts(arguments: argparse.Namespace) -> None:
    """Run parts here, and tell the parent of them, a line of JSON each."""
    # What libraries print is no line of ours.
    tell = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    for name in arguments.only:
        _say(tell, name, state="begun")
        begun = time.monotonic()
        state, error = "done", None
        try:
            # Here, as this needs what the machine may lack: then each part says so.
            from bench.gpu.parts import PART_FUNCTIONS, Bench

            device = "cpu" if arguments.dry else "cuda"
            bench = Bench(device, arguments.dry, arguments.work, arguments.pack)
            for row in PART_FUNCTIONS[name](bench):
                _say(tell, name, row=row)
        except Exception as failure:  # noqa: BLE001 - the other parts go on whatever it is
            traceback.print_exc()
            state, error = "failed", f"{type(failure).__name__}: {failure}"
            if failure.__cause__ is not None:
                error += f" ({type(failure.__cause__).__name__}: {failure.__cause__})"
        _say(tell, name, state=state, seconds=time.monotonic() - begun, error=error)


def _say(tell: TextIO, part: str, **what: Any) -> None:
    tell.write(json.dumps({"part": part, **what}) + "\n")
    tell.flush()


def _brief(row: dict[str, Any]) -> str:
    kept = {key: value for key, value in row.items() if isinstance(value, str | int | float)}
    kept.pop("case", None)
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in kept.items()
    )


def _tell(text: str) -> None:
    print(f"[{datetime.now(UTC):%H:%M:%S}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
