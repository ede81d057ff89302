"""``python -m bench engines``: each row compares two sides, run in turn, by medians of ratios.

A side is a process of its own, so threads that one library leaves behind do not slow another. Work
is timed once everything is loaded. On a busy machine the CPU time of all threads says more than the
wall time does.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import av
import numpy as np

from bench.audio import to_pcm, write_wav
from bench.engines.over_http import Sent, longhand, peer
from bench.platform import ROOT
from cli.embedded.services import ALLOCATION
from shared.models.catalogue import ONNX_ENGINES, Model, load_catalogue
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from worker.media.decode import decode

PARTS = ("file", "platform", "server", "chunks", "short", "before")
N_SHORT = 64
SHORT_S = (2.0, 15.0)
CHUNK_S = 30.0


@dataclass(frozen=True, slots=True)
class Extent:
    """What to measure, and how often."""

    catalogue: Path
    models: Sequence[str]
    audio: Sequence[Path]
    minutes: float = 60.0
    rounds: int = 3
    n_chunks: int = 16
    n_short: int = N_SHORT


class Side(NamedTuple):
    """A side of ``sides.py``, the tree that it runs, and what it is given."""

    name: str
    tree: Path
    given: dict[str, Any]


def run(before: Path | None, parts: Sequence[str], extent: Extent) -> None:
    """Print a row for each comparison that the named models and the audio allow.

    A faster-whisper model is compared with faster-whisper, a Whisper for transformers with its
    pipeline, an ONNX model with onnx-asr, and, in the part ``before``, every model with itself in
    another tree.
    """
    if not extent.audio or not extent.models:
        sys.exit("bench: name real speech and models: --audio FILE --catalogue FILE --model ID")
    catalogue = load_catalogue(extent.catalogue)
    speech = np.concatenate([_read(path) for path in extent.audio])
    print(f"{'':<58}{'ours s':>8}{'other s':>9}{'wall':>7}{'CPU':>7}{'words':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for model_id in extent.models:
            model = catalogue.get(model_id)
            rows = _Rows(model, speech, extent, Path(folder))
            for part in parts or PARTS:
                if part == "before" and before is not None:
                    rows.before(before.resolve())
                elif part != "before":
                    getattr(rows, part)()


class _Rows:
    """The rows of one model."""

    def __init__(self, model: Model, speech: Samples, extent: Extent, folder: Path) -> None:
        self._model, self._speech, self._extent, self._folder = model, speech, extent, folder
        self._given = {
            "catalogue": str(extent.catalogue.resolve()),
            "model": model.id,
            "folder": str(model.folder),
        }

    def file(self) -> None:
        """A file, from its bytes to its words, in one process."""
        if self._model.engine != "faster-whisper":
            return
        given = self._given | {"audio": str(self._mp3())}
        minutes = f"{self._extent.minutes:g} min of mp3"
        self._compare(f"{minutes}, faster-whisper batched", "file-ours", "file-bare", given)

    def platform(self) -> None:
        """The same file through a whole platform, against the library in one process."""
        if self._model.engine in ONNX_ENGINES:
            library, side = "onnx-asr one by one", "file-onnx-asr"
        elif self._model.engine == "faster-whisper":
            library, side = "faster-whisper batched", "file-bare"
        else:
            return
        audio = self._mp3()
        given = self._given | {"audio": str(audio), "window_s": self._model.window_s}
        given |= {"quantization": self._model.quantization}
        sent, others = [], []
        with longhand(self._extent.catalogue, self._model.id) as server:
            for _ in range(self._extent.rounds):
                sent.append(server.send([audio]))
                others.append(_measure(Side(side, ROOT, given)))
        name = f"{self._extent.minutes:g} min, POST to result, {library}"
        self._print(name, [each.took for each in sent], others)
        _print_shares(sent[-1])

    def server(self) -> None:
        """The same file, and short files at once, through a platform and through a peer's server.

        Both are up all the time, and neither works while the other does.
        """
        if self._model.engine != "faster-whisper" or self._model.folder is None:
            return
        minutes, n_short = f"{self._extent.minutes:g} min of mp3", self._extent.n_short
        loads = {
            f"{minutes}, server with a lock": [self._mp3()],
            f"{n_short} files of 2 to 15 s at once, server with a lock": self._short_files(),
        }
        with (
            longhand(self._extent.catalogue, self._model.id) as ours,
            peer(self._model.folder) as other,
        ):
            for name, files in loads.items():
                pairs = [(ours.send(files), other.send(files)) for _ in range(self._extent.rounds)]
                self._print(
                    name, [pair[0].took for pair in pairs], [pair[1].took for pair in pairs]
                )
                _print_shares(pairs[-1][0])

    def chunks(self) -> None:
        """Full windows through the batcher, greedy, against the pipeline by 8 or onnx-asr."""
        if self._model.engine in ONNX_ENGINES:
            given = self._given | {"items": str(self._chunks(self._model.window_s))}
            given |= {"quantization": self._model.quantization}
            seconds = f"{self._extent.n_chunks} chunks of {self._model.window_s:g} s"
            self._compare(f"{seconds}, onnx-asr one by one", "items-ours", "items-onnx-asr", given)
        if self._model.engine != "transformers-whisper":
            return
        given = self._given | {"items": str(self._chunks(CHUNK_S)), "beam_size": 1}
        for times, of in ((True, "segment times"), ("word", "word times")):
            name = f"{self._extent.n_chunks} chunks of 30 s, pipeline by 8 with {of}"
            self._compare(name, "items-ours", "items-pipeline", given | {"times": times})

    def short(self) -> None:
        """Items of 2 to 15 s, all at once, against one by one."""
        given = self._given | {"items": str(self._short())}
        name = f"{self._extent.n_short} items of 2 to 15 s"
        if self._model.engine == "faster-whisper":
            self._compare(f"{name}, faster-whisper one by one", "items-ours", "items-bare", given)
        elif self._model.engine in ONNX_ENGINES:
            given |= {"quantization": self._model.quantization}
            self._compare(f"{name}, onnx-asr one by one", "items-ours", "items-onnx-asr", given)

    def before(self, tree: Path) -> None:
        """Full windows through the batcher of this tree and of another."""
        given = self._given | {"items": str(self._chunks(self._model.window_s))}
        name = (
            f"{self._extent.n_chunks} chunks of {self._model.window_s:g} s, {self._model.id} before"
        )
        self._compare(name, "items-ours", "items-ours", given, tree)

    def _compare(
        self, name: str, ours: str, other: str, given: dict[str, Any], tree: Path = ROOT
    ) -> None:
        pairs = [
            (_measure(Side(ours, ROOT, given)), _measure(Side(other, tree, given)))
            for _ in range(self._extent.rounds)
        ]
        self._print(name, [pair[0] for pair in pairs], [pair[1] for pair in pairs])

    def _print(
        self, name: str, ours: Sequence[dict[str, float]], others: Sequence[dict[str, float]]
    ) -> None:
        ratios = {
            key: median(b[key] / a[key] for a, b in zip(ours, others, strict=True))
            for key in ("wall_s", "cpu_s")
        }
        seconds = [median(each["wall_s"] for each in side) for side in (ours, others)]
        words = f"{ours[0]['n_words']:.0f}/{others[0]['n_words']:.0f}"
        print(
            f"{name:<58}{seconds[0]:>8.2f}{seconds[1]:>9.2f}{ratios['wall_s']:>7.2f}"
            f"{ratios['cpu_s']:>7.2f}{words:>12}",
            flush=True,
        )

    def _mp3(self) -> Path:
        path = self._folder / "speech.mp3"
        if not path.exists():
            n_samples = round(60 * self._extent.minutes * SAMPLE_RATE)
            _write_mp3(path, np.resize(self._speech, n_samples))
        return path

    def _chunks(self, seconds: float) -> Path:
        n_samples = round(seconds * SAMPLE_RATE)
        sound = np.resize(self._speech, n_samples * self._extent.n_chunks)
        return self._save(f"chunks-{seconds:g}", list(sound.reshape(-1, n_samples)))

    def _short(self) -> Path:
        return self._save("short", self._short_items())

    def _short_files(self) -> list[Path]:
        paths = []
        for i, item in enumerate(self._short_items()):
            paths.append(self._folder / f"short-{i:04d}.wav")
            with paths[-1].open("wb") as file:
                write_wav(file, [to_pcm(item)])
        return paths

    def _short_items(self) -> list[Samples]:
        rng = np.random.default_rng(0)
        items = []
        for _ in range(self._extent.n_short):
            n_samples = round(rng.uniform(*SHORT_S) * SAMPLE_RATE)
            at = int(rng.integers(max(1, len(self._speech) - n_samples)))
            items.append(self._speech[at : at + n_samples])
        return items

    def _save(self, name: str, items: Sequence[Samples]) -> Path:
        path = self._folder / f"{name}.npz"
        arrays = {f"{i:04d}": item for i, item in enumerate(items)}
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return path


def _measure(side: Side) -> dict[str, float]:
    """Run a side in a process of its own; return what it says."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("sides.py")), side.name]
    done = subprocess.run(
        command,
        input=json.dumps(side.given),
        env=_environment(side),
        cwd=side.tree,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"bench: {side.name} failed in {side.tree}")
    took: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return took


def _environment(side: Side) -> dict[str, str]:
    """Return a side's environment. Our sides allocate memory as services do."""
    allocation = ALLOCATION if side.name.endswith("-ours") else {}
    own = {"PYTHONPATH": str(side.tree), "TOKENIZERS_PARALLELISM": "false"}
    return allocation | os.environ | own


def _print_shares(sent: Sent) -> None:
    """Print where the CPU time went, by service."""
    total = sum(sent.cpu_s.values())
    parts = sorted(sent.cpu_s.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{name} {100 * seconds / total:.1f} %" for name, seconds in parts)
    print(f"  CPU time by service: {shares}", flush=True)


def _read(path: Path) -> Samples:
    with path.open("rb") as file:
        pcm = np.concatenate([block for (block,) in decode(file, 24 * 3600)])
    return pcm.astype(np.float32) / 32768


def _write_mp3(path: Path, samples: Samples) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE)
        stream.layout = "mono"  # type: ignore[attr-defined]
        for frame in _frames(samples):
            container.mux(stream.encode(frame))  # type: ignore[attr-defined]
        container.mux(stream.encode(None))  # type: ignore[attr-defined]


def _frames(samples: Samples) -> Iterator[av.AudioFrame]:
    block = 60 * SAMPLE_RATE
    for at in range(0, len(samples), block):
        pcm = np.rint(samples[at : at + block] * 32767).astype("<i2")
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = at
        yield frame
