"""tus 1.0: an upload goes on where it was cut off."""

import base64
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from apiserver import api, api_process, assert_problem
from processes import wait_until
from sqlalchemy import Engine
from tusclient import OFFSET_STREAM, RESUMABLE, TusUpload, begin, metadata

from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.store.objects.keys import tail_key, upload_key
from shared.store.uploads import get_upload

MIB = 1024**2

pytestmark = pytest.mark.usefixtures("database")


def stored_file(storage: Storage, upload: TusUpload, n_bytes: int) -> bytes:
    return storage.read(upload_key(upload.id), 0, n_bytes + 1)


def test_an_upload_in_pieces_of_any_length_is_one_file(
    client: httpx.Client, storage: Storage
) -> None:
    file = os.urandom(2 * PART_BYTES + 5)
    upload = begin(client, len(file), filename="../a talk.mp3")
    cuts = [0, 5, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, len(file)]
    for start, stop in zip(cuts, cuts[1:], strict=False):
        answer = upload.patch(client, start, file[start:stop])
        assert answer.status_code == 204, answer.text
        assert answer.headers["Upload-Offset"] == str(stop)
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert upload.offset(client) == stop
        # What is stored beside the parts is dropped once it is within one.
        assert storage.size(tail_key(upload.id, start)) is None

    assert stored_file(storage, upload, len(file)) == file
    told = client.get(f"/uploads/{upload.id}").json()
    assert (told["state"], told["name"], told["offset"]) == ("complete", "a talk.mp3", len(file))
    assert told["sha256"] == hashlib.sha256(file).hexdigest()


def cut_off(client: httpx.Client, upload: TusUpload, start: int, content: bytes) -> None:
    """Send some of what was announced, then break the connection."""

    def broken() -> Iterator[bytes]:
        yield content
        raise ConnectionError

    with suppress(ConnectionError):
        upload.patch(client, start, broken(), Content_Length=str(len(content) + 1))


def test_an_upload_cut_off_at_60_percent_goes_on_there_after_a_restart(
    settings: Settings, storage: Storage, tmp_path: Path
) -> None:
    file = os.urandom(3 * PART_BYTES)
    cut = len(file) * 6 // 10
    with api_process(settings, tmp_path / "first.log") as (client, _):
        digest = hashlib.sha256(file).hexdigest()
        upload = begin(client, len(file), filename="a.wav", sha256=digest)
        cut_off(client, upload, 0, file[:cut])
        wait_until(lambda: upload.offset(client) == cut, within_s=20)
    with api_process(settings, tmp_path / "second.log") as (client, _):
        assert upload.offset(client) == cut
        assert upload.patch(client, cut, file[cut:]).status_code == 204
        told = client.get(f"/uploads/{upload.id}").json()
    assert (told["state"], told["sha256"]) == ("complete", digest)
    assert stored_file(storage, upload, len(file)) == file
