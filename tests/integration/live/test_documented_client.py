"""The client that docs/live.md shows."""

import subprocess
import sys
from pathlib import Path

import httpx

from harness.live.audio import say, silence, texts
from harness.repository.documents import blocks


def test_the_client_of_the_documents_prints_a_final_and_the_end(
    client: httpx.Client, tmp_path: Path
) -> None:
    (program,) = (block.text for block in blocks("docs/live.md") if block.language == "python")
    (tmp_path / "speech.raw").write_bytes(silence(0.3) + say(1, 2, 3) + silence(0.1))

    done = subprocess.run(
        [sys.executable, "-c", program.replace("127.0.0.1:8000", client.base_url.netloc.decode())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert f'"text":"{texts(1, 2, 3)}"' in done.stdout
    assert '"session_ended"' in done.stdout.splitlines()[-1]
