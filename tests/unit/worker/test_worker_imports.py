"""What a machine that only infers must have installed."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BLOCKED = ("av", "boto3", "celery", "ctranslate2", "fastapi", "kombu", "sqlalchemy")
PROGRAM = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split():
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
before = set(sys.modules)
import worker.batching.batcher, worker.batching.load
import worker.engines.ctc.onnx_ctc, worker.engines.whisper.faster_whisper
import worker.engines.ctc.transformers_ctc, worker.engines.whisper.transformers_whisper
imported = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(imported - sys.stdlib_module_names)))
"""


def test_engines_and_batcher_import_no_more_than_numpy_settings_and_metrics() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, " ".join(BLOCKED)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    imported = {name for name in json.loads(done.stdout) if not name.startswith("_sysconfigdata")}
    assert imported == {
        *("shared", "worker"),
        *("numpy", "prometheus_client"),
        *("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),
        *("pydantic_settings", "dotenv"),
    }
