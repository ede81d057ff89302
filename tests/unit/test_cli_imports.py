"""The command line answers at once: what only some commands need is imported by these alone."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HELP = """
import json, sys
import cli.main

sys.argv = ["longhand", "--help"]
try:
    cli.main.main()
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_help_imports_only_click_and_modules_of_python() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    imported = set(json.loads(done.stdout.splitlines()[-1])) - sys.stdlib_module_names
    assert {name for name in imported if not name.startswith("_")} == {"cli", "click", "shared"}
