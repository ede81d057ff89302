"""A platform beyond loopback: it asks for keys, and prints the first one."""

import signal
from pathlib import Path

from harness.programs.command_line import Up, longhand, transcribe, write_words
from harness.servers import patient
from shared.infra.api_keys import check_key
from shared.store.accounts.scopes import Scope


def test_up_beyond_loopback_asks_for_keys_and_prints_the_first_administrators(
    tmp_path: Path,
) -> None:
    data, clip = tmp_path / "data", write_words(tmp_path / "clip.wav", [1, 2, 3])
    up = Up(data, "--host", "0.0.0.0")
    try:
        (line,) = (line for line in up.lines if line.startswith("administrator's key"))
        key = line.split()[-1]
        check_key(key)
        assert "the key is not shown again" in up.stderr
        assert key not in up.stderr
        assert patient.get(f"{up.url}/jobs").status_code == 401
        opened = patient.get(f"{up.url}/admin/keys", headers={"X-API-Key": key})
        assert [each["name"] for each in opened.json()["keys"]] == ["first administrator"]

        listed = longhand("keys", "list", "--data", data)
        assert listed.stdout.endswith(f"{','.join(sorted(Scope))}  first administrator\n")
        made = longhand("keys", "create", "--name", "newsroom", "--data", data)
        done = transcribe(data, clip, LONGHAND_API_KEY=made.stdout.strip())
        assert (done.returncode, done.stdout) == (0, "w00001 w00002 w00003\n"), done.stderr
        refused = transcribe(data, clip, LONGHAND_API_KEY="")
        assert refused.returncode == 1
        assert "API key" in refused.stderr.splitlines()[-1]
    finally:
        up.end(signal.SIGTERM)
