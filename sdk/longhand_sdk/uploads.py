"""Large files, sent by tus 1.0: an upload goes on where it was cut off."""

import base64
from collections.abc import Mapping

import httpx

from longhand_sdk.core import UPLOAD_TIMEOUT, Core, Patience, is_passing, path_of
from longhand_sdk.errors import LonghandError
from longhand_sdk.files import AudioFile, Rest
from longhand_sdk.flows import Call, Flow, Pause, send
from longhand_sdk.models import Model

RESUMABLE_BYTES = 64 * 1024 * 1024
"""A larger file is sent in this way; to send a smaller one again costs little."""
TUS: Mapping[str, str] = {"Tus-Resumable": "1.0.0"}
LOOK_S = 1.0
"""How often an upload is asked about that the server is verifying."""


class _Upload(Model):
    id: str
    state: str


def upload(core: Core, file: AudioFile) -> Flow[str]:
    """Send a file, and return the id of its upload once jobs can be made of it.

    Raises:
        LonghandError: the server refuses it, or is away for too long.
        FileChanged: the file has become shorter.
    """
    name = base64.b64encode(file.name.encode("utf-8", "replace")).decode()
    headers = {
        **TUS,
        "Upload-Length": str(file.size_bytes),
        "Upload-Metadata": f"filename {name}" if name else "",
    }
    created = yield from core.request(Call("POST", "/uploads/tus", headers=headers))
    path: str = created.headers.get("Location", "")
    upload_id = path.rstrip("/").rpartition("/")[2]
    if not upload_id:
        raise core.foreign()
    yield from _send_rest(core, file, path_of("uploads", "tus", upload_id))
    while True:
        found = yield from core.ask(_Upload, Call("GET", path_of("uploads", upload_id)))
        if found.state != "verifying":
            return upload_id  # what the job's creation thinks of another state, it says
        yield Pause(LOOK_S)


def _send_rest(core: Core, file: AudioFile, path: str) -> Flow[None]:
    """Send the file from where the server has it, until the server has it all."""
    offset, patience = 0, Patience(core)
    while offset < file.size_bytes:
        rest = Rest(file, offset)
        headers = {**TUS, "Upload-Offset": str(offset)}
        failed: LonghandError
        try:
            call = Call("PATCH", path, body=rest, headers=headers, timeout=UPLOAD_TIMEOUT)
            response = yield from send(call)
        except httpx.RequestError as error:
            failed = core.failed(error)
        else:
            if response.is_success:
                return
            failed = core.refusal(response)
            if not is_passing(failed) and failed.code != "offset_mismatch":
                raise failed
        yield Pause(patience.pause_s(failed))
        head = yield from core.request(Call("HEAD", path, headers=TUS))
        try:
            stored = int(head.headers["Upload-Offset"])
        except (KeyError, ValueError) as error:
            raise core.foreign() from error
        if stored > offset:
            patience.end()
        offset = stored
