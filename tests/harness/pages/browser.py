"""A real browser for tests, told what to do over the DevTools protocol."""

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from harness.programs.workers import wait_until
from harness.servers import patient

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None
)
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-port=0", "--window-size=900,600"),
)


class Page:
    """A tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = count()

    def open(self, url: str) -> None:
        """Go to an address."""
        self._call("Page.enable")
        self._call("Page.navigate", url=url)
        wait_until(lambda: self.value("document.readyState") == "complete")

    def value(self, expression: str) -> Any:
        """Return the value of an expression, a promise's when it is there."""
        answer = self._call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write what is to be seen as PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(30))
            if message.get("id") == number:
                result: dict[str, Any] = message["result"]
                return result


@contextmanager
def chromium(microphone: Path, *, again: bool = False) -> Iterator[Page]:
    """Yield a tab of Chromium whose microphone, which pages may use, plays a WAV file once.

    Or ``again`` and again: what a busy machine loses is heard later.
    """
    assert CHROMIUM is not None
    file = f"{microphone}{'' if again else '%noloop'}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                *(CHROMIUM, *QUIET, f"--user-data-dir={profile}"),
                *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
                f"--use-file-for-fake-audio-capture={file}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            told = Path(profile, "DevToolsActivePort")
            port = wait_until(lambda: told.exists() and told.read_text().partition("\n")[0])
            targets = patient.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
            (tab,) = (target for target in targets if target["type"] == "page")
            with connect(
                tab["webSocketDebuggerUrl"], max_size=None, proxy=None, open_timeout=60
            ) as connection:
                yield Page(connection)
        finally:
            process.kill()
            process.wait()
