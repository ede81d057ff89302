"""What the command line imports, and what its fork server imports for the services."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HELP = """
import json, sys
import cli.main

sys.argv = ["longhand", "--help"]
try:
    cli.main.main()
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

IMPORT = """
import importlib, json, os, sys, threading
from cli.embedded.fork_server import IMPORTED

fds = set(os.listdir("/proc/self/fd"))
for name in IMPORTED:
    importlib.import_module(name)
from shared.infra.settings import get_settings

print(json.dumps({
    "settings read": get_settings.cache_info().currsize,
    "threads": [thread.name for thread in threading.enumerate()],
    "opened": sorted(set(os.listdir("/proc/self/fd")) - fds),
}))
"""


def test_help_imports_only_click_and_modules_of_python() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    imported = set(json.loads(done.stdout.splitlines()[-1])) - sys.stdlib_module_names
    assert {name for name in imported if not name.startswith("_")} == {"cli", "click", "shared"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no fork server")
def test_what_the_fork_server_imports_reads_no_setting_and_leaves_no_thread_or_file() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert json.loads(done.stdout) == {"settings read": 0, "threads": ["MainThread"], "opened": []}
